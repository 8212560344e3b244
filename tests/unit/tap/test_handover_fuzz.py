"""Two taps in one loop hand clients back and forth while those send requests, pipelined and cut anywhere, to servers
that answer each with its own body: every answer comes once, in order, from whichever server."""

import asyncio
import random
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from latentry_serving.contract.tap_config import Address, TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.control import Control
from latentry_serving.tap.control_client import ask
from latentry_serving.tap.forwarder import Forwarder
from latentry_serving.tap.slis import slis

CLIENTS, ROUNDS = 8, 60


class Echo:
    """A server that answers a request with its body, after some turns of the loop, in pieces."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.served = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
                self.served += 1
                await turns(self._rng)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                cut = self._rng.randrange(len(answer))
                writer.write(answer[:cut])
                await turns(self._rng)
                writer.write(answer[cut:])
        except asyncio.IncompleteReadError as error:
            assert error.partial == b"", "a request was cut in two"
        finally:
            writer.close()


async def turns(rng: random.Random) -> None:
    for _ in range(rng.choice((0, 0, 1, 3, 10))):
        await asyncio.sleep(0)


async def client(port: int, name: int, rng: random.Random) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = 0
    for turn in range(ROUNDS):
        bodies = [
            b"%d-%d-%d " % (name, turn, index) * rng.choice((1, 1, 400)) for index in range(rng.choice((1, 1, 3)))
        ]
        data = b"".join(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)
        for cut in sorted(rng.randrange(len(data)) for _ in range(rng.choice((0, 1, 3)))):
            writer.write(data[:cut])
            data = data[cut:]
            await turns(rng)
        writer.write(data)
        for body in bodies:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head == b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert await reader.readexactly(len(body)) == body
        asked += len(bodies)
        await turns(rng)
    writer.close()
    return asked


@asynccontextmanager
async def tap(listeners, echo: Echo, path: str, *, accepting: bool):
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    upstream = Address(port=server.sockets[0].getsockname()[1])
    http, grpc = (listener.dup().detach() for listener in listeners)
    config = TapConfig(
        http_fd=http, grpc_fd=grpc, accepting=accepting, control=path, upstream_http=upstream, upstream_grpc=upstream
    )
    clock = asyncio.get_running_loop().time
    book = SliBook((1.0,), ["other"], started_s=0.0)
    forwarder = Forwarder(config, book, book, clock)
    await forwarder.listen()
    control = Control(path, forwarder, clock)
    control.start()
    yield book
    forwarder.doors.close()
    await control.stop()
    server.close()


def counted(book: SliBook) -> dict[str, int]:
    """Calls by outcome."""
    book.settle()
    total: dict[str, int] = {}
    for row in slis(book, model="m", version="1", digest=None, now_s=0.0).operations:
        for outcome, count in row.total.outcomes.items():
            total[outcome] = total.get(outcome, 0) + count
    return total


@pytest.mark.parametrize("seed", range(12))
async def test_every_request_is_answered_once_whoever_serves_it(seed, tmp_path):
    rng = random.Random(seed)
    paths = [str(tmp_path / name) for name in "ab"]
    echoes = [Echo(rng), Echo(rng)]
    async with AsyncExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        books = [
            await stack.enter_async_context(tap(listeners, echo, path, accepting=path == paths[0]))
            for echo, path in zip(echoes, paths, strict=True)
        ]
        port = listeners[0].getsockname()[1]
        clients = [asyncio.create_task(client(port, name, random.Random(100 * seed + name))) for name in range(CLIENTS)]
        moved = turn = 0
        while not all(task.done() for task in clients):
            answer = await ask(paths[turn % 2], "hand over", to=paths[1 - turn % 2], seconds=20.0)
            assert (answer["left"], answer["problem"]) == (0, "")
            moved, turn = moved + answer["moved"], turn + 1
            await turns(rng)
        asked = sum([task.result() for task in clients])
        assert sum(echo.served for echo in echoes) == asked
        assert sum(counted(book)["ok"] for book in books) == sum(sum(counted(book).values()) for book in books) == asked
        assert moved > CLIENTS
