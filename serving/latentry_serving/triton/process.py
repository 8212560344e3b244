"""One run of tritonserver: started, watched until ready, stopped without a trace."""

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from latentry_serving.child import bound_to_parent
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.tap_config import Address
from latentry_serving.contract.triton_traces import TraceExport, trace_arguments
from latentry_serving.triton.client import TritonClient
from latentry_serving.triton.diagnosis import TAIL_LINES, diagnose, oom_kill_count, port_taken
from latentry_serving.triton.exits import exits
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.model_config import PYTHON_BACKEND
from latentry_serving.triton.server_log import ServerLog, open_log_file, write_line
from latentry_serving.triton.shared_memory import new_prefix, remove_regions

HOST = "127.0.0.1"
LOG_FILE = "triton.log"

_STUB = "triton_python_backend_stub"
_LOG_LINES = 400
_LINE_BYTES = 1 << 20
_POLL_SECONDS = 0.05
_KILL_AFTER_SECONDS = 5.0
"""Triton ends its models one second after the last request and looks once per second: 2 to 3 s, and then some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonSettings:
    """How Triton is run. Every listener is on 127.0.0.1; a port of 0 picks a free one."""

    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    ready_timeout_seconds: float = 120.0
    """From start to every model ready."""
    drain_seconds: int = 5
    """How long requests in flight may take to finish when Triton is stopped; then it ends all the same. Triton waits
    as long for idle keep-alive connections: close those first, and stopping takes 2 to 3 s."""
    traces: TraceExport | None = None
    """Where Triton's own spans go; None for nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a running Triton listens."""

    http: Address
    grpc: Address
    metrics: Address


def choose_addresses(settings: TritonSettings) -> Addresses:
    """Checks the given ports and picks free ones for the rest.

    Raises:
        PortTaken: a given port is in use.
    """
    with contextlib.ExitStack() as stack:  # all held at once, so that no port is picked twice
        ports = [
            stack.enter_context(_bound(port)).getsockname()[1]
            for port in (settings.http_port, settings.grpc_port, settings.metrics_port)
        ]
    http, grpc, metrics = (Address(host=HOST, port=port) for port in ports)
    return Addresses(http=http, grpc=grpc, metrics=metrics)


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for Triton too
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise port_taken(f"{HOST}:{port}", details=str(error)) from error
    return listener


class TritonProcess:
    """One tritonserver and its stubs. Use ``launch``, ``wait_ready``, ``wait_broken`` and ``stop`` in this order."""

    def __init__(
        self,
        process: Process,
        addresses: Addresses,
        settings: TritonSettings,
        prefix: str,
        output: IO[bytes],
        log_file: Path,
    ) -> None:
        self._process = process
        self.addresses = addresses
        self._settings = settings
        self._prefix = prefix
        self._oom_kills_before = oom_kill_count()
        self._stubs: list[psutil.Process] = []
        self._gone = False
        self.log = ServerLog(lines=deque(maxlen=_LOG_LINES))
        self._reader = asyncio.create_task(self._read_log(output, log_file))
        self._exit = asyncio.create_task(process.wait())

    @classmethod
    async def launch(
        cls, install: TritonInstall, repository: Path, work_dir: Path, addresses: Addresses, settings: TritonSettings
    ) -> "TritonProcess":
        """Starts Triton. It gets its own session: Ctrl-C in the terminal reaches only us, and we stop it.

        Args:
            install: which Triton.
            repository: the model repository.
            work_dir: an existing folder of ours for the log and the backends' links.
            addresses: where it shall listen.
            settings: time limits.

        Raises:
            OperationFailed: the binary cannot be run, or the folder not be written.
        """
        prefix = new_prefix()
        command = [str(install.binary), *_arguments(repository, addresses, settings, prefix)]
        if not install.has_onnxruntime:
            command.append("--allow-gpu-metrics=false")  # needs libraries the wheel does not bring
        # A pipe of our own: asyncio's would keep Process.wait from returning while a stub still holds its end.
        read_end, write_end = os.pipe()
        output = os.fdopen(read_end, "rb")
        try:
            backends = _link_backends(install, work_dir / "backends")
            command += [f"--backend-directory={backends}"]
            process = await asyncio.create_subprocess_exec(
                *bound_to_parent(command, os.getpid()),
                stdin=DEVNULL, stdout=write_end, stderr=write_end,
                env=_environment(install, os.environ), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            output.close()
            raise OperationFailed(
                f"cannot start {install.binary}: {error}", remedy=f"check the binary and that {work_dir} can be written"
            ) from error
        finally:
            os.close(write_end)
        return cls(process, addresses, settings, prefix, output, work_dir / LOG_FILE)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_ready(self, progress: Callable[[ServerLog], None]) -> None:
        """Returns when Triton answers that it and all models are ready; calls ``progress`` at every change.

        Raises:
            OperationFailed: it ended, cannot start, or took too long. It is not stopped.
        """
        seen = (0, 0)
        try:
            async with (
                asyncio.timeout(self._settings.ready_timeout_seconds),
                TritonClient(self.addresses.http) as http,
                TritonClient(self.addresses.metrics) as metrics,
            ):
                # Metrics last: Triton opens that port last, and ends when it cannot.
                while not (await http.is_ready(server_id=self._prefix) and await metrics.serves_metrics()):
                    if await self._ended_within(_POLL_SECONDS) or self.log.missing_library or self.log.port_taken:
                        raise await self._failure()
                    now = (len(self.log.loading), len(self.log.loaded))
                    if now != seen:
                        progress(self.log)
                        seen = now
        except TimeoutError as error:
            raise OperationFailed(
                f"Triton is not ready after {self._settings.ready_timeout_seconds:g} s",
                remedy="raise the time limit, or see its last lines below",
                details=self.log.tail(TAIL_LINES),
            ) from error
        with contextlib.suppress(psutil.NoSuchProcess):  # ended this very moment: wait_broken will say so
            self._stubs = [child for child in psutil.Process(self.pid).children() if _is_stub(child)]

    async def wait_broken(self, noticed: Callable[[], None], check_seconds: float = 1.0) -> OperationFailed:
        """Returns, with the reason, when a ready Triton has ended or lost one of its model processes.

        Triton 2.51 never replaces a python model process that died, and goes on calling itself ready.

        Args:
            noticed: called the moment it is known, before what is left is cleared up and the reason found.
            check_seconds: between two looks at the model processes, where the kernel does not tell of their end.
        """
        with exits(stub.pid for stub in self._stubs) as one_ended:
            lost = None
            while lost is None and not await self._ended_within(check_seconds, or_when=one_ended):
                lost = next((stub for stub in self._stubs if not _alive(stub)), None)
        noticed()
        if lost is None:
            return await self._failure()
        return OperationFailed(
            f"Triton lost a model process (pid {lost.pid}); {self._kills()}",
            remedy="see its last lines below",
            details=self.log.tail(TAIL_LINES),
        )

    async def stop(self) -> None:
        """SIGTERM, SIGKILL after the grace, then whatever is left of its group and its shared memory. Idempotent.

        Cancelling it kills at once, and still leaves nothing behind.
        """
        if self._gone:
            return
        try:
            if not self._exit.done():
                self._process.send_signal(signal.SIGTERM)
                await self._ended_within(self._settings.drain_seconds + _KILL_AFTER_SECONDS)
        finally:
            await asyncio.shield(self._clear())

    async def _clear(self) -> None:
        """Ends the whole process group. Once only: later the number may belong to somebody else."""
        if not self._gone:
            self._gone = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._exit
        await self._reader
        remove_regions(self._prefix)

    async def _ended_within(self, seconds: float, or_when: asyncio.Event | None = None) -> bool:
        """Whether it has; waits for so long, or until ``or_when`` is set."""
        other = {asyncio.create_task(or_when.wait())} if or_when is not None else set()
        try:
            await asyncio.wait({self._exit, *other}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in other:
                task.cancel()
        if or_when is not None:
            or_when.clear()
        return self._exit.done()

    async def _failure(self) -> OperationFailed:
        """Clears up first, so that the log is complete."""
        exit_code = self._process.returncode
        await self._clear()
        return diagnose(exit_code, self.log, oom_kills=self._oom_kills())

    def _oom_kills(self) -> int:
        return oom_kill_count() - self._oom_kills_before

    def _kills(self) -> str:
        return (
            "out of memory, the kernel killed a process"
            if self._oom_kills()
            else "the kernel reports no lack of memory"
        )

    async def _read_log(self, output: IO[bytes], path: Path) -> None:
        reader = asyncio.StreamReader(limit=_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), output
        )
        with contextlib.closing(transport), contextlib.closing(open_log_file(path)) as file:
            while True:
                try:
                    raw = await reader.readline()
                except ValueError:  # longer than the limit: that part is dropped
                    continue
                if not raw:
                    return
                line = raw.decode("utf-8", errors="replace").rstrip()
                self.log.add(line)
                write_line(file, line)


def _arguments(repository: Path, addresses: Addresses, settings: TritonSettings, prefix: str) -> list[str]:
    return [
        f"--id={prefix}",
        f"--model-repository={repository}",
        "--disable-auto-complete-config",  # ours is complete; completing starts every python model once more
        f"--http-address={addresses.http.host}",
        f"--http-port={addresses.http.port}",
        f"--grpc-address={addresses.grpc.host}",
        f"--grpc-port={addresses.grpc.port}",
        f"--metrics-address={addresses.metrics.host}",
        f"--metrics-port={addresses.metrics.port}",
        f"--exit-timeout-secs={settings.drain_seconds}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--backend-config=python,stub-timeout-seconds={math.ceil(settings.ready_timeout_seconds)}",
        *(trace_arguments(settings.traces) if settings.traces is not None else ()),
    ]


def _link_backends(install: TritonInstall, target: Path) -> Path:
    """The folder of backends: Triton's own, or ours holding the python backend with the stub of this Python."""
    python = install.python_backend
    if python is None:
        return install.backend_dir
    if target.exists():
        shutil.rmtree(target)
    folder = target / PYTHON_BACKEND
    folder.mkdir(parents=True)
    for file in (
        python.directory / "libtriton_python.so",
        python.directory / "triton_python_backend_utils.py",
        python.stub,
    ):
        (folder / file.name).symlink_to(file)
    return target


def _environment(install: TritonInstall, base: Mapping[str, str]) -> dict[str, str]:
    """Ours, with Triton's libraries, and our interpreter first on PATH.

    The stub's interpreter is isolated: it ignores PYTHONPATH and PYTHONHOME and takes the environment of the first
    ``python3`` on PATH.
    """
    libraries = [*map(str, install.library_dirs)]
    environment = dict(base)
    if install.python_backend is not None:
        libraries.append(str(install.python_backend.libpython_dir))
        environment["PATH"] = os.pathsep.join(
            [str(install.python_backend.interpreter.parent), base.get("PATH", os.defpath)]
        )
    if base.get("LD_LIBRARY_PATH"):
        libraries.append(base["LD_LIBRARY_PATH"])
    return {**environment, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def _is_stub(process: psutil.Process) -> bool:
    try:
        return _STUB in process.cmdline()[0]
    except (psutil.Error, IndexError):
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
