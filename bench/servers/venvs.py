"""Virtual environments for servers whose packages must not mix with ours, kept in the user's cache between runs."""

import asyncio
import hashlib
import os
import shutil
import sys
from collections import deque
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from latentry_serving.contract.errors import OperationFailed

_REQUIREMENTS = Path(__file__).parents[1]


def cache_folder() -> Path:
    """Where the project keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentry"


async def environment(name: str, console: Console) -> Path:
    """The folder of the environment for ``bench/requirements-NAME.txt``, installed on first use.

    Its name carries a digest of the requirements and the Python version, so a change of either makes a new one.

    Raises:
        OperationFailed: pip failed; with its last lines.
    """
    requirements = _REQUIREMENTS / f"requirements-{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_folder() / "bench-venvs" / f"{name}-{digest}"
    stamp = folder / "complete"
    if stamp.is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    with console.status(f"{name}: making its virtual environment (once, about a minute)") as status:
        await _run([sys.executable, "-m", "venv", str(folder)], status)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        await _run([*pip, "--progress-bar=off", "-r", str(requirements)], status)
    stamp.touch()
    return folder


async def _run(command: list[str], status: Status) -> None:
    """Runs a command to its end and shows its latest line."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20
    )
    assert process.stdout is not None
    lines: deque[str] = deque(maxlen=15)
    async for line in process.stdout:
        lines.append(line.decode(errors="replace").rstrip())
        status.update(escape(lines[-1][:100]))
    if await process.wait():
        raise OperationFailed(
            f"`{' '.join(command[1:5])} ...` ended with exit code {process.returncode}",
            remedy="check the network and the free disk space, then run again",
            details="\n".join(lines),
        )
