"""What becomes of a client when Triton's side ends after the kernel has taken the connection, and before the tap has
joined the two: the kernel of a Triton that is being torn down takes them. Real sockets, the order forced."""

import asyncio
import socket
import struct
import time

import pytest

from latentry_serving.contract.metrics import Protocol
from latentry_serving.contract.tap_config import Address
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.tap.connection import Connection
from latentry_serving.tap.http1 import Http1Observer
from latentry_serving.tap.http2 import Http2Observer
from latentry_serving.tap.readalong import ReadAlong

SAID = b"PRI * HTTP/2.0\r\n"
AT_ONCE = struct.pack("ii", 1, 0)


class Slow(Connection):
    """Learns that its dial succeeded only when Triton has ended it again, or said something."""

    async def _connect(self) -> None:
        server = self._server
        await super()._connect()
        while not (server.ended or server.lost or server.early):
            await asyncio.sleep(0)


class Met:
    """A client, the tap's connection for it, and Triton's listening socket."""

    def __init__(self, protocol: Protocol, patience_s: float) -> None:
        self.triton = socket.create_server(("127.0.0.1", 0))
        self.triton.setblocking(False)
        book = SliBook((1.0,), [], started_s=0.0)
        observer = {Protocol.HTTP: Http1Observer, Protocol.GRPC: Http2Observer}[protocol](Catalogue({}), book)
        self.closed: list[object] = []
        self.connection = Slow(
            Address(host="127.0.0.1", port=self.triton.getsockname()[1]),
            ReadAlong(observer, protocol, book),
            clock=time.monotonic,
            buffer_bytes=65_536,
            connect_timeout_s=10.0,
            patience_s=lambda: patience_s,
            on_closed=lambda _, refused: self.closed.append(refused),
        )

    async def dies(self, client: socket.socket, end: str, word: bytes = b"") -> None:
        """Triton takes the connection, perhaps says a word, and is gone."""
        loop = asyncio.get_running_loop()
        server, _ = await loop.sock_accept(self.triton)
        await loop.sock_sendall(client, SAID)
        await loop.sock_sendall(server, word)
        self.triton.close()
        if end == "reset":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        server.close()


async def meet(protocol: Protocol, patience_s: float) -> tuple[Met, socket.socket, asyncio.Server]:
    met, loop = Met(protocol, patience_s), asyncio.get_running_loop()
    tap = await loop.create_server(lambda: met.connection.client, "127.0.0.1", 0)
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, tap.sockets[0].getsockname())
    return met, client, tap


async def until(check) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0)


@pytest.mark.parametrize("end", ["in order", "reset"])
@pytest.mark.parametrize("protocol", Protocol)
async def test_a_client_waits_with_all_it_said(protocol, end):
    met, client, tap = await meet(protocol, patience_s=600.0)
    await met.dies(client, end)
    await until(lambda: met.connection.waiting and met.connection.client.early == SAID)
    assert met.closed == []
    client.close()
    tap.close()


@pytest.mark.parametrize(("patience_s", "word"), [(0.0, b""), (600.0, b"a word")])
async def test_without_patience_or_after_a_word_it_ends_as_triton_ends(patience_s, word):
    met, client, tap = await meet(Protocol.GRPC, patience_s)
    await met.dies(client, "in order", word)
    heard = b""
    async with asyncio.timeout(30):
        while data := await asyncio.get_running_loop().sock_recv(client, 100):
            heard += data
    assert heard == word
    client.close()
    tap.close()
    await until(lambda: met.closed == [None])
