"""Reading a summary from whoever answers: a tap, nobody, something else, something hostile."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tap_samples import tap_summary

from latentry_operator.runtime.tap_client import MOST_BYTES, TapClient, TapSilent

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SUMMARY = tap_summary()
PATIENCE_SECONDS = 30.0
"""A busy machine may take long for any answer."""
BODY = SUMMARY.model_dump_json(by_alias=True).encode()


@pytest.fixture
async def client() -> AsyncIterator[TapClient]:
    async with TapClient(timeout_seconds=PATIENCE_SECONDS) as made:
        yield made


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Answer], Awaitable[tuple[str, int]]]]:
    """``await serve(answer)``: host and port of a server that gives that answer."""
    servers: list[TestServer] = []

    async def start(answer: Answer) -> tuple[str, int]:
        app = web.Application()
        app.router.add_get("/summary", answer)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return server.host, server.port or 0

    yield start
    for server in servers:
        await server.close()


async def test_a_tap(client: TapClient, serve: Callable[[Answer], Awaitable[tuple[str, int]]]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BODY.replace(b'{"model"', b'{"newer": [1], "model"', 1))

    assert await client.summary(*await serve(answer)) == SUMMARY


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with pytest.raises(ConnectionError):
        while True:
            await response.write(b" " * 65536)
    return response


async def hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


def gives(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (gives(404), "HTTP 404"),
        (gives(302, Location="http://127.0.0.1:1/"), "HTTP 302"),
        (gives(body=b"<html>hello"), "no tap's summary"),
        (gives(body=b"{}"), "no tap's summary"),
        (gives(body=b"\xff\xfe"), "no tap's summary"),
        (gives(body=BODY.replace(b'"uptimeSeconds":100.0', b'"uptimeSeconds":"long"')), "no tap's summary"),
        (gives(body=gzip.compress(b" " * 10_000_000), **{"Content-Encoding": "gzip"}), "no tap's summary"),
        (endless, f"more than {MOST_BYTES} bytes"),
        (hangs, "no answer from"),
        (half, "broke off"),
    ],
)
async def test_what_is_no_tap(
    answer: Answer, words: str, serve: Callable[[Answer], Awaitable[tuple[str, int]]]
) -> None:
    host, port = await serve(answer)
    async with TapClient(timeout_seconds=0.5 if answer is hangs else PATIENCE_SECONDS) as client:
        with pytest.raises(TapSilent, match=words) as caught:
            await client.summary(host, port)
    assert f"{host}:{port}" in str(caught.value)


async def test_nobody_listens(client: TapClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TapSilent, match="connect"):
        await client.summary("127.0.0.1", port)


async def test_an_ipv6_address_is_written_as_such(client: TapClient) -> None:
    with pytest.raises(TapSilent, match=r"^\[::1\]:1"):
        await client.summary("::1", 1)
