"""A small real bundle and `latentry up` as users run it: the console script as a child process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from small_graphs import save_linear

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
LATENTRY = Path(sys.executable).parent / "latentry"


@pytest.fixture(scope="session")
def encoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x [n, 4] @ WEIGHTS -> embedding [n, 2], built by the product from an ONNX graph."""
    folder = tmp_path_factory.mktemp("encoder")
    save_linear(folder / "e.onnx", WEIGHTS)
    np.save(folder / "reference.npy", np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32))
    (folder / "spec.yaml").write_text(
        """
        apiVersion: latentry.dev/v1alpha1
        kind: BundleSpec
        name: tiny
        version: "7"
        family: Encoder
        latentDimension: 2
        artifacts: {encoder: {path: e.onnx}}
        reference: {path: reference.npy}
        """
    )
    build_bundle(load_spec(folder / "spec.yaml"), base_dir=folder, out_dir=folder / "bundle")
    return folder / "bundle"


@dataclass
class Up:
    """A running `latentry up --output json`."""

    process: "subprocess.Popen[str]"
    seen: list[dict[str, Any]]

    def wait_for(self, phase: str, *, models: int = 1) -> dict[str, dict[str, Any]]:
        """Reads lines until so many models are in the phase; name -> snapshot."""
        latest: dict[str, dict[str, Any]] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            snapshot = json.loads(line)
            self.seen.append(snapshot)
            latest[snapshot["name"]] = snapshot
            found = {name: s for name, s in latest.items() if s["phase"] == phase}
            if len(found) == models:
                return found
        raise AssertionError(f"ended before {phase}: {self.seen[-3:]}\n{self.end()[1]}")

    def wait_message(self, text: str) -> dict[str, Any]:
        """Reads lines until one's message contains the text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            snapshot: dict[str, Any] = json.loads(line)
            self.seen.append(snapshot)
            if text in snapshot["message"]:
                return snapshot
        raise AssertionError(f"{text!r} never came: {self.seen[-3:]}")

    def children(self, name: str) -> list[psutil.Process]:
        """Descendants with a word in their command line."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if any(name in word for word in child.cmdline()):
                    found.append(child)
        return found

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Signals it; exit code and stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `latentry up` in a folder of its own; whatever is left of it at the end is killed."""
    started: list[Up] = []

    def start(*arguments: str) -> Up:
        # Ports far from the documented ones, each test's own: other tests may serve at the same time.
        first = 20_000 + os.getpid() % 10_000 + 100 * len(started)
        names = ("--http-port", "--grpc-port", "--admin-port", "--page-port")
        ports = [word for i, name in enumerate(names) for word in (name, str(first + 25 * i))]
        process = subprocess.Popen(
            [str(LATENTRY), "up", *arguments, "--output", "json", *ports],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        started.append(Up(process, []))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate(timeout=60)


@pytest.fixture
def model_file(tmp_path: Path, encoder_bundle: Path) -> Callable[..., str]:
    """Writes a LatentModel over a bundle; the file's name."""

    def write(name: str, bundle: Path = encoder_bundle, extra: str = "") -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"apiVersion: latentry.dev/v1alpha1\nkind: LatentModel\nmetadata: {{name: {name}}}\n"
            f"spec:\n  family: Encoder\n  bundle: {{uri: 'file://{bundle}'}}\n{extra}"
        )
        return path.name

    return write
