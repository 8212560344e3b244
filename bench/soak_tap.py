"""``make soak``: half an hour of mixed traffic through one tap, which must end as small as it began.

Run from the repository: ``python -m bench.soak_tap [--minutes N]``. Calls of both protocols and three sizes, new
connections for every burst, clients that leave in the middle of a call, bytes that are no HTTP/2; samples are taken.
After a warm-up of a sixth of the time the tap's memory, descriptors and threads are noted, and again at the end.
"""

import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from bench.check import check_answer
from bench.light import MAX_BATCH_SIZE, MODEL, VALUES, build_light, tensor_of
from bench.load.generator import put_load, require_generators
from bench.load.payload import CheckedCall, Protocol, encode_call
from bench.servers.base import Endpoint, Serving
from bench.servers.tap import tap
from bench.servers.triton import triton
from rich.console import Console

from latentry_serving.contract.errors import LatentryError, OperationFailed
from latentry_serving.contract.tap_config import Sampling

_PROTOCOLS = (Protocol.JSON, Protocol.BINARY, Protocol.GRPC)
_PAYLOADS = (1 << 10, 1 << 16, 1 << 20)
_CONNECTIONS = 16
_LEAVERS = 20
_WARM_UP_SHARE = 6
_GROWTH_MB = 8.0
"""An allocator's noise; a leak of 100 bytes a call is far above it after half an hour."""
_SAMPLES_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class Size:
    """How large the tap's process is."""

    memory_mb: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Size":
        return cls(process.memory_info().rss / 1e6, process.num_fds(), process.num_threads())


@contextlib.asynccontextmanager
async def _tap_before_triton() -> AsyncIterator[tuple[Endpoint, Endpoint]]:
    with tempfile.TemporaryDirectory(prefix="latentry-soak-") as name:
        folder, bundle = Path(name), Path(name, "bundle")
        manifest = build_light(bundle)
        serving = Serving(MODEL, bundle, folder, MAX_BATCH_SIZE, 0)
        sampling = Sampling(max_per_second=_SAMPLES_PER_SECOND)
        async with triton(serving, bundle, manifest) as direct, tap(
            serving, manifest, direct, sampling=sampling
        ) as (tapped, _):  # fmt: skip
            yield direct, tapped


async def soak(minutes: float, console: Console) -> tuple[Size, Size, int]:
    """Runs the traffic; answers the tap's size after the warm-up and at the end, and the calls made.

    Raises:
        OperationFailed: something does not start, or a call failed.
    """
    require_generators()
    async with _tap_before_triton() as (direct, tapped):
        calls = [await _checked(direct, protocol, size) for protocol in _PROTOCOLS for size in _PAYLOADS]
        process = psutil.Process(tapped.pids[0])
        end_s = time.monotonic() + minutes * 60
        warm_s = end_s - minutes * 60 * (1 - 1 / _WARM_UP_SHARE)
        warm: Size | None = None
        made = 0
        for call in itertools.cycle(calls):
            load = await put_load(tapped, call, connections=_CONNECTIONS, seconds=1)
            made += load.requests
            await asyncio.gather(*(_leave(tapped, call) for _ in range(_LEAVERS)))
            if warm is None and time.monotonic() >= warm_s:
                warm = await _settled(process)
                console.print(f"after the warm-up: {warm}", highlight=False)
            if time.monotonic() >= end_s and warm is not None:
                return warm, await _settled(process), made
    raise AssertionError("the cycle has no end")


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


async def _settled(process: psutil.Process) -> Size:
    """The size once the last connections are gone."""
    await asyncio.sleep(2)
    return Size.of(process)


def main(minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 30) -> None:
    """Soak the tap; exit code 1 when it grew."""
    console = Console()
    try:
        before, after, calls = asyncio.run(soak(minutes, console))
        console.print(f"at the end, {calls:,} calls later: {after}", highlight=False)
        _judge(before, after)
    except LatentryError as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


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
