"""``make soak``: half an hour of mixed traffic through one tap, which must end as small as it began.

Run from the repository: ``python -m bench.soak_tap [--minutes N]``. Calls of both protocols and three sizes, new
connections for every burst, clients that leave in the middle of a call, bytes that are no HTTP/2; samples are taken.
The tap's memory, descriptors and threads are noted after every burst. The first third of the time is warm-up; in the
last third all three must be what they were in the second.
"""

import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from bench import report
from bench.check import check_answer
from bench.light import MAX_BATCH_SIZE, MODEL, VALUES, build_light, tensor_of
from bench.load.generator import put_load, require_generators
from bench.load.payload import CheckedCall, Protocol, encode_call
from bench.servers.base import Endpoint, Serving
from bench.servers.tap import tap
from bench.servers.triton import triton
from rich.console import Console

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.tap_config import Sampling

_SMALL, _MEDIUM, _LARGE = 1 << 10, 1 << 16, 1 << 20
_CALLS = [
    (protocol, payload)
    for protocol in (Protocol.JSON, Protocol.BINARY, Protocol.GRPC)
    for payload in (_SMALL, _MEDIUM, _LARGE)
    if (protocol, payload) != (Protocol.JSON, _LARGE)  # Triton reads that for seconds
]
_CONNECTIONS = 16
_BURST_SECONDS = 6
_SETTLE_SECONDS = 0.5
_LEAVERS = 20
_GROWTH_MB = 16.0
"""Samples on their way and an allocator's noise; half an hour has millions of calls."""
_SAMPLING = Sampling(max_per_second=50, max_bytes=1 << 20)


@dataclass(frozen=True, slots=True)
class Size:
    """How large the tap's process is."""

    memory_mb: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Size":
        return cls(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())

    @classmethod
    def median(cls, sizes: Sequence["Size"]) -> "Size":
        """Medians: what samples hold comes and goes, up to the limit of their queue."""
        return cls(
            statistics.median(size.memory_mb for size in sizes),
            statistics.median_low([size.descriptors for size in sizes]),
            statistics.median_low([size.threads for size in sizes]),
        )


@contextlib.asynccontextmanager
async def _tap_before_triton() -> AsyncIterator[tuple[Endpoint, Endpoint]]:
    with tempfile.TemporaryDirectory(prefix="latentry-soak-") as name:
        folder, bundle = Path(name), Path(name, "bundle")
        manifest = build_light(bundle)
        serving = Serving(MODEL, bundle, folder, MAX_BATCH_SIZE, 0)
        async with triton(serving, bundle, manifest) as direct, tap(
            serving, manifest, direct, sampling=_SAMPLING
        ) as (tapped, _):  # fmt: skip
            yield direct, tapped


async def soak(minutes: float, console: Console) -> tuple[list[Size], int]:
    """Runs the traffic; answers the tap's size after each burst, and the calls made.

    Raises:
        OperationFailed: something does not start, or a call failed.
    """
    require_generators()
    async with _tap_before_triton() as (direct, tapped):
        calls = [await _checked(direct, protocol, size) for protocol, size in _CALLS]
        process = psutil.Process(tapped.pids[0])
        end_s = time.monotonic() + minutes * 60
        sizes: list[Size] = []
        made = 0
        with console.status("soaking") as status:
            for call in itertools.cycle(calls):
                load = await put_load(tapped, call, connections=_CONNECTIONS, seconds=_BURST_SECONDS)
                made += load.requests
                await asyncio.gather(*(_leave(tapped, call) for _ in range(_LEAVERS)))
                await asyncio.sleep(_SETTLE_SECONDS)
                sizes.append(Size.of(process))
                status.update(f"{made:,} calls: {sizes[-1].memory_mb:.0f} MB")
                if time.monotonic() >= end_s:
                    break
        return sizes, made


async def _checked(direct: Endpoint, protocol: Protocol, size: int) -> CheckedCall:
    x = tensor_of(size)
    return await check_answer(direct, encode_call(protocol, MODEL, {"x": x}), {"y": x[:, :VALUES]})


async def _leave(tapped: Endpoint, call: CheckedCall) -> None:
    """A client that goes away in the middle: of an HTTP request, or of bytes that are no HTTP/2 to the gRPC port."""
    address = tapped.grpc if call.protocol is Protocol.GRPC else tapped.http
    _, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST {call.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(call.body)}\r\n\r\n".encode()
    writer.write(head + call.body[: len(call.body) // 2])
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.transport.abort()


def main(minutes: Annotated[float, typer.Option(min=1, help="How long.")] = 30) -> None:
    """Soak the tap; exit code 1 when it grew."""
    console = Console()
    with report.failures_told():
        sizes, calls = asyncio.run(soak(minutes, console))
        third = len(sizes) // 3
        before, after = Size.median(sizes[third : 2 * third]), Size.median(sizes[2 * third :])
        console.print(f"{calls:,} calls; second third: {before}; last third: {after}", highlight=False)
        _judge(before, after)


def _judge(before: Size, after: Size) -> None:
    """
    Raises:
        OperationFailed: the tap grew.
    """
    grown = after.memory_mb - before.memory_mb
    if grown > _GROWTH_MB or after.descriptors > before.descriptors or after.threads > before.threads:
        raise OperationFailed(
            f"the tap grew from {before} to {after}", remedy="something is kept per call or per connection; find it"
        )


if __name__ == "__main__":
    typer.run(main)
