"""What every server under test has in common: where it listens, which processes it is, and how it is started."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from bench.load.payload import Protocol

from latentry_serving.child import bound_to_parent
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.tap_config import Address

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One way to the model."""

    server: str
    """As printed: ``Triton``, ``Triton + tap``, ..."""
    http: Address
    grpc: Address
    protocols: tuple[Protocol, ...]
    pids: tuple[int, ...]
    """The processes whose CPU and memory are the server's own, without their children."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What every server serves, and with which limits."""

    model: str
    graph: Path
    """The ONNX graph, the same file for all."""
    work_dir: Path
    """A folder of this run's own."""
    max_batch_size: int
    max_queue_delay_us: int
    """Longest time a request waits for others to share its batch."""


def free_addresses(count: int) -> list[Address]:
    """Loopback addresses whose ports were free a moment ago, for servers that cannot choose one themselves."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [Address(port=one.getsockname()[1]) for one in sockets]


@contextlib.asynccontextmanager
async def running(
    command: Sequence[object], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a server in a process group of its own and ends the whole group afterwards.

    Args:
        command: absolute path of the program, and its arguments.
        log: file for all its output.
        env: added to our environment.
        cwd: its working directory.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent([str(part) for part in command], os.getpid()),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def wait_ready(server: str, process: asyncio.subprocess.Process, http: Address, model: str, log: Path) -> None:
    """Returns when the server says over HTTP that the model is ready.

    Raises:
        OperationFailed: it ended or took too long.
    """
    remedy = "see the end of its log below"
    async with httpx.AsyncClient(base_url=f"http://{http}") as client:
        for _ in range(round(_READY_SECONDS / 0.1)):
            if process.returncode is not None:
                problem = f"{server} ended with exit code {process.returncode}"
                raise OperationFailed(problem, remedy=remedy, details=log_tail(log))
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"/v2/models/{model}/ready")).is_success:
                    return
            await asyncio.sleep(0.1)
    raise OperationFailed(f"{server} was not ready in {_READY_SECONDS:g} s", remedy=remedy, details=log_tail(log))


def log_tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def family_of(pid: int) -> tuple[int, ...]:
    """A process and its descendants."""
    process = psutil.Process(pid)
    return (pid, *(child.pid for child in process.children(recursive=True)))
