"""The other drift libraries: which methods take part, and how one is run in its own virtual environment."""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.drift_traffic import Singles
from bench.servers.venvs import environment
from rich.console import Console

from latentry_serving.contract.errors import OperationFailed

_SCRIPTS = Path(__file__).with_name("rivals")


@dataclass(frozen=True, slots=True)
class Method:
    """A library's method. ``heavy``: too slow for thousands of windows of hundreds of dimensions."""

    library: str
    name: str
    heavy: bool = False

    @property
    def label(self) -> str:
        return f"{self.library} {self.name}"


METHODS = (
    Method("evidently", "distance"),
    Method("evidently", "mmd", heavy=True),
    Method("evidently", "ratio", heavy=True),
    Method("frouros", "mmd", heavy=True),
    Method("frouros", "psi", heavy=True),
    Method("river", "adwin", heavy=True),
    Method("nannyml", "reconstruction"),
)


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores per run of the windows got through, larger the more one differs; CPU seconds of fitting and of scoring."""

    runs: tuple[tuple[float, ...], ...]
    fit_s: float
    spent_s: float


def environments(console: Console) -> Mapping[str, Path]:
    """The virtual environment of each library, installed on first use.

    Raises:
        OperationFailed: pip failed.
    """
    names = dict.fromkeys(method.library for method in METHODS)
    return {name: asyncio.run(environment(f"drift-{name}", console)) for name in names}


def score(
    method: Method,
    venv: Path,
    reference: Singles,
    windows: Singles,
    *,
    threshold: float | None = None,
    most_s: float | None = None,
) -> Scored:
    """Runs a method over runs of windows [runs, m, w, d] against a reference [n, d], on one thread.

    Args:
        threshold: a run ends with the first score above it.
        most_s: CPU seconds after which no further window is begun.

    Raises:
        OperationFailed: the library fails.
    """
    with tempfile.TemporaryDirectory(prefix="latentry-rival-") as name:
        files = {part: Path(name) / f"{part}.npy" for part in ("reference", "windows")}
        np.save(files["reference"], reference)
        np.save(files["windows"], windows)
        out, request = Path(name) / "out.json", Path(name) / "request.json"
        asked = {part: str(file) for part, file in files.items()} | {"method": method.name, "out": str(out)}
        request.write_text(json.dumps(asked | {"threshold": threshold, "most_s": most_s}))
        command = [str(venv / "bin" / "python"), str(_SCRIPTS / f"run_{method.library}.py"), str(request)]
        alone = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | alone)
        if done.returncode:
            raise OperationFailed(
                f"{method.label} ended with exit code {done.returncode}",
                remedy="mend its script or its virtual environment",
                details=done.stderr[-2000:],
            )
        found = json.loads(out.read_text())
        return Scored(tuple(map(tuple, found["runs"])), found["fit_s"], found["spent_s"])
