"""The commands of Triton's probes and hook, run by a real bash against sockets of this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from latentry_operator.plan.cluster import ClusterSettings
from latentry_operator.render.containers import triton_live_command, triton_stop_command
from latentry_serving.contract.tap_config import Address, TapConfig

Answer = Callable[[asyncio.StreamWriter], None]


@contextlib.asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that answers every request the same, or never; its port, and whether someone came."""
    came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        if answer is not None:
            with contextlib.suppress(ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def run(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


@pytest.fixture
def on_ports(plan: Any) -> Callable[[int, int], Any]:
    return lambda triton, admin: plan(
        settings=ClusterSettings(tap=TapConfig(upstream_http=Address(port=triton), admin=Address(port=admin)))
    )


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"", False),
    ],
)
async def test_live_follows_the_answer(on_ports: Any, answer: bytes, alive: bool) -> None:
    async with listening(answer or None) as (port, _):
        assert (await run(triton_live_command(on_ports(port, 1))) == 0) is alive


async def test_live_fails_where_nobody_listens(on_ports: Any, unused_tcp_port: int) -> None:
    assert await run(triton_live_command(on_ports(unused_tcp_port, 1))) != 0


async def test_the_hook_waits_for_the_tap_to_end(on_ports: Any) -> None:
    async with listening(b"HTTP/1.0 200 OK\r\n\r\n") as (triton, _):
        async with listening(None) as (admin, asked):
            process = await asyncio.create_subprocess_exec(*triton_stop_command(on_ports(triton, admin)))
            for _ in range(3):
                await asked.wait()
                asked.clear()
            assert process.returncode is None
        assert await process.wait() is not None


async def test_the_hook_does_not_wait_for_a_stuck_triton(on_ports: Any) -> None:
    async with listening(b"HTTP/1.1 500 Internal\r\n\r\n") as (triton, _), listening(None) as (admin, asked):
        await run(triton_stop_command(on_ports(triton, admin)))
        assert asked.is_set()
