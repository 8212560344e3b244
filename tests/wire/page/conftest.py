"""A bundle with a profile, a real Triton over it, the tap in front as a process, and pages that may do no wrong."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from small_graphs import save_linear

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec
from latentry_serving.bundle.store import load_manifest

WAIT_S = 90.0
expect.set_options(timeout=WAIT_S * 1000)
WIDTH, WINDOW = 4, 50
SPEC = f"""
apiVersion: latentry.dev/v1alpha1
kind: BundleSpec
name: tiny
version: "7"
family: Encoder
latentDimension: 2
artifacts: {{encoder: {{path: e.onnx}}}}
reference: {{path: reference.npy}}
profile: {{window: {WINDOW}}}
"""


def rows(seed: int, count: int) -> np.ndarray:
    """Undrifted inputs."""
    return np.random.Generator(np.random.PCG64(seed)).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.fixture(scope="session")
def profiled_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x [n, 4] -> embedding [n, 2], built by the product, with the profile of 1,500 inputs."""
    folder = tmp_path_factory.mktemp("encoder")
    save_linear(folder / "e.onnx", np.arange(8).reshape(WIDTH, 2) / 8)
    np.save(folder / "reference.npy", rows(1, 1500))
    (folder / "spec.yaml").write_text(SPEC)
    build_bundle(load_spec(folder / "spec.yaml"), base_dir=folder, out_dir=folder / "bundle")
    return folder / "bundle"


class LiveTap:
    """`latentry tap` in front of a real Triton; it can be killed and started again where it was."""

    def __init__(self, **settings: object) -> None:
        self._settings = settings
        self.ports: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        """Starts it, the second time on the ports of the first."""
        addresses = {name: f"127.0.0.1:{self.ports.get(name, 0)}" for name in ("http", "grpc", "admin")}
        given = {f"LATENTRY_TAP_{key.upper()}": str(value) for key, value in (addresses | self._settings).items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "latentry_serving", "tap"],
            env=os.environ | given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        assert line, "the tap did not start"
        self.ports = {name: port for name, port in json.loads(line).items() if name != "event"}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['admin']}/"

    def get(self, path: str) -> dict:
        found: dict = httpx.get(self.url + path, timeout=WAIT_S).raise_for_status().json()
        return found

    def send(self, values: np.ndarray) -> None:
        """Encodes ten inputs a call."""
        with httpx.Client(timeout=WAIT_S) as client:
            for start in range(0, len(values), 10):
                part = values[start : start + 10]
                tensor = {"name": "x", "datatype": "FP32", "shape": list(part.shape), "data": part.ravel().tolist()}
                url = f"http://127.0.0.1:{self.ports['http']}/v2/models/tiny_encode/infer"
                client.post(url, json={"inputs": [tensor]}).raise_for_status()

    def drift(self) -> None:
        """Has it raise an alarm, as shifted inputs do, and keep it in the history."""
        self.wait("drift", lambda drift: drift["state"] == "watching")
        self.send(rows(2, 200))
        self.send(rows(3, 200) + np.float32(2))
        self.wait("history", lambda history: any(True in part["alarms"] for part in history["statistics"]))

    def wait(self, path: str, done: Callable[[dict], object]) -> dict:
        """The document once it is so."""
        deadline = time.monotonic() + WAIT_S
        while not done(found := self.get(path)):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found


@pytest.fixture(scope="session")
def encoder_triton(profiled_encoder: Path, running_triton):
    """A Triton over the bundle."""
    return running_triton(profiled_encoder, load_manifest(profiled_encoder))


@pytest.fixture(scope="module")
def alarming_tap(encoder_triton, profiled_encoder: Path) -> Iterator[LiveTap]:
    """A tap whose inputs drifted, in alarm until more are sent."""
    with live_taps(encoder_triton, profiled_encoder) as start:
        tap = start()
        tap.drift()
        yield tap


@pytest.fixture
def start_live_tap(encoder_triton, profiled_encoder: Path) -> Iterator[Callable[..., LiveTap]]:
    """``start_live_tap(**settings)``: a tap that samples everything, ready."""
    with live_taps(encoder_triton, profiled_encoder) as start:
        yield start


@contextlib.contextmanager
def live_taps(encoder_triton, profiled_encoder: Path) -> Iterator[Callable[..., LiveTap]]:
    """Starts taps, and ends them."""
    addresses = encoder_triton.addresses
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> LiveTap:
            given = {
                "model": "tiny",
                "upstream_http": addresses.http,
                "upstream_grpc": addresses.grpc,
                "bundle_dir": profiled_encoder,
                "sampling": "{maxPerSecond: 100000}",
                "drift": json.dumps({"window": WINDOW, "expectedRunTimeSeconds": 3600}),
            }
            tap = LiveTap(**(given | settings))
            stack.callback(tap.kill)
            tap.wait("page/models", lambda found: found["models"][0]["phase"] == "Ready")
            return tap

        yield start


class Visitor:
    """Opens pages and keeps what they must not do: errors, and requests to anywhere else."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.pages: list[Page] = []

    def open(self, url: str, before: Callable[[Page], None] | None = None, **context: object) -> Page:
        """A page of a browser of its own, loaded and showing its first figures."""
        page = self._browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context).new_page()
        self.pages.append(page)
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._asked)
        if before is not None:
            before(page)
        page.goto(url)
        page.locator("#link-text", has_text="Live").wait_for()
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)

    def asked(self, part: str) -> int:
        """How many requests so far were for something."""
        return sum(part in url for url in self.requests)


@pytest.fixture(scope="module")
def live_browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visitor(live_browser: Browser) -> Iterator[Visitor]:
    found = Visitor(live_browser)
    yield found
    for page in found.pages:
        page.context.close()
