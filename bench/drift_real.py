"""Real data for the drift benchmarks: a digits VAE's four tensors, and MiniLM embeddings of docstrings."""

import ast
import asyncio
import hashlib
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from bench.drift_traffic import EMBEDDING, Singles
from bench.servers.venvs import environment
from examples.digits.train import digits, train
from rich.console import Console

from latentry_serving.contract.errors import OperationFailed

_DIGITS_POOL = 40_000
_TEXTS = 5_000
_SHORTEST, _LONGEST = 30, 200
_ENCODE = Path(__file__).parent / "rivals" / "encode_minilm.py"


def digits_vae() -> Mapping[str, Singles]:
    """Input, posterior mean and log-variance, reconstruction error of 40,000 noisy copies of real digits.

    Each is a digit the VAE never saw with its own contrast and pixel noise, so that no two are alike.
    """
    seen, held_out = digits()
    encoder, decoder = train(seen)
    rng = np.random.default_rng(11)
    images = held_out[rng.integers(0, len(held_out), _DIGITS_POOL)]
    contrast = rng.uniform(0.8, 1.0, (_DIGITS_POOL, 1, 1, 1)).astype(np.float32)
    images = np.clip(images * contrast + rng.normal(0, 0.03, images.shape).astype(np.float32), 0, 1)
    parts = []
    with torch.no_grad():
        for batch in torch.from_numpy(images).split(1000):
            mean, log_variance = encoder(batch)
            error = (decoder(mean) - batch).square().mean(dim=(1, 2, 3))[:, None]
            parts.append((batch.flatten(1).numpy(), mean.numpy(), log_variance.numpy(), error.numpy()))
    names = ("input", "posterior_mean", "posterior_log_variance", "reconstruction_error")
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def minilm(folder: Path) -> Mapping[str, Singles]:
    """MiniLM embeddings [n, 384] of first sentences of the docstrings of Python's library and the packages here.

    They are made once, in the model's own virtual environment, and kept in ``folder``.

    Raises:
        OperationFailed: the environment cannot be made, or encoding fails.
    """
    texts = _texts()
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    kept = folder / f"minilm-{digest}.npy"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "texts.txt"
        source.write_text("\n".join(texts))
        venv = asyncio.run(environment("drift-minilm", Console()))
        command = [str(venv / "bin" / "python"), str(_ENCODE), str(source), str(kept)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OperationFailed(
                f"encoding with MiniLM ended with exit code {done.returncode}",
                remedy="leave the case out with --only, or mend its virtual environment",
                details=done.stderr[-2000:],
            )
    return {EMBEDDING: np.load(kept)}


def _texts() -> list[str]:
    """First sentences of docstrings: distinct, evenly taken from all that are found."""
    roots = [Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"])]
    found: dict[str, None] = {}
    for package in ("", "numpy", "scipy", "sklearn"):
        root = roots[1] / package if package else roots[0]
        files = sorted(root.glob("*.py") if not package else root.rglob("*.py"))
        for file in (file for file in files if "tests" not in file.parts):
            found.update(dict.fromkeys(_sentences(file)))
    every = list(found)
    step = max(1.0, len(every) / _TEXTS)
    return [every[int(i * step)] for i in range(min(_TEXTS, len(every)))]


def _sentences(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if _SHORTEST <= len(text) <= _LONGEST:
                yield text
