"""Programs that scripts/tools/fetch keeps in a cache outside the checkout."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str, environment: Mapping[str, str] | None = None) -> Run:
    """Runs ``name`` in the repository's root, ``environment`` added to ours; its failure is the caller's to judge.

    Raises:
        AssertionError: it could not be fetched.
    """
    command = [sys.executable, ROOT / "scripts" / "tools" / "fetch", name]
    fetched = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    assert fetched.returncode == 0, f"scripts/tools/fetch {name} failed; it says why on stderr"
    path = fetched.stdout.strip()
    surroundings = os.environ | dict(environment or {})

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [path, *arguments], check=False, capture_output=True, text=True, cwd=ROOT, env=surroundings, timeout=120
        )

    return run
