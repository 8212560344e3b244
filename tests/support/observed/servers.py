"""Real Tritons and real taps as processes that can be killed and started anew."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from kube.process import Child

from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.triton.install import TritonInstall, find_triton
from latentry_serving.triton.local_repository import RuntimeOverrides, write_local_repository
from latentry_serving.triton.process import Addresses, TritonProcess, TritonSettings, choose_addresses

START_SECONDS = 120.0


class Tritons:
    """Starts Tritons side by side. The kernel ends a Triton with the thread that started it: this one's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._install: TritonInstall = find_triton()
        self._running: list[Triton] = []

    def start(self, bundle: Path, folder: Path, overrides: RuntimeOverrides | None = None) -> "Triton":
        """One over a bundle; does not wait until it is ready."""
        folder.mkdir()
        write_local_repository(bundle, load_manifest(bundle), folder / "repository", self._install, overrides)
        triton = Triton(self, folder, self._install)
        self._running.append(triton)
        return triton

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for triton in self._running:
            triton.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Triton:
    """One real Triton."""

    def __init__(self, owner: Tritons, folder: Path, install: TritonInstall) -> None:
        settings = TritonSettings(ready_timeout_seconds=START_SECONDS)
        self.addresses: Addresses = choose_addresses(settings)
        self._owner = owner
        self._stopped = threading.Event()

        async def launch() -> TritonProcess:
            process = await TritonProcess.launch(install, folder / "repository", folder, self.addresses, settings)
            await process.wait_ready(lambda _: None)
            return process

        self._launched = owner.submit(launch())

    @property
    def process(self) -> TritonProcess:
        """Once it is ready."""
        found: TritonProcess = self._launched.result(START_SECONDS)
        return found

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        if self._launched.exception() is None:
            self._owner.submit(self.process.stop()).result(START_SECONDS)


class Tap(Child):
    """``latentry tap`` with a configuration that names its ports, so that it can be started again on them."""

    def __init__(self, config: TapConfig, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "tap.json"
        command = [sys.executable, "-m", "latentry_serving", "tap", "--config", self._file]
        super().__init__(f"tap of {config.model}", command, folder / "tap.log")
        self.serve(config)

    def serve(self, config: TapConfig) -> None:
        """Starts it; a tap that runs is stopped before."""
        self.stop()
        self._file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
        self.config = config
        self.start()

    def get(self, path: str) -> httpx.Response:
        """An answer of the admin port."""
        return httpx.get(f"http://{self.config.admin}{path}", timeout=30)

    def ready(self) -> bool:
        """Whether it says so."""
        assert self.running, self.tail()
        try:
            return self.get("/readyz").is_success
        except httpx.TransportError:
            return False
