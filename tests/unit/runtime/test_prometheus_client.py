"""Instant queries: values, no data, and every way to get no answer. tests/wire/operator asks a real Prometheus."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from latentry_operator.runtime.prometheus import NoData, Prometheus, PrometheusError, Refused, Unreachable

Answering = Callable[..., Awaitable[Prometheus]]


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    """``await answering(document, status=200, prefix="")``: a client of a server that says that, or hangs with None."""
    opened: list[Any] = []

    async def start(document: Any, status: int = 200, prefix: str = "") -> Prometheus:
        async def answer(request: web.Request) -> web.StreamResponse:
            form = await request.post()
            assert form["query"] == "q"
            if document is None:
                await asyncio.Event().wait()
            if isinstance(document, bytes):
                return web.Response(body=document, status=status)
            return web.json_response(document, status=status)

        app = web.Application()
        app.router.add_post(f"{prefix}/api/v1/query", answer)
        server = TestServer(app)
        await server.start_server()
        opened.append(server.close)
        patience = 0.5 if document is None else 30  # a busy machine may take more than half a second for any answer
        client = Prometheus(f"http://{server.host}:{server.port}{prefix}/", timeout_seconds=patience)
        await client.__aenter__()
        opened.append(lambda: client.__aexit__(None, None, None))
        return client

    yield start
    for close in reversed(opened):
        await close()


def vector(*values: str, **labels: str) -> dict[str, Any]:
    result = [{"metric": {"__name__": "x"} | labels, "value": [10.5, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


async def test_series_have_labels_values_and_times(answering: Answering) -> None:
    client = await answering(vector("0.25", model="m"), prefix="/prom")
    (found,) = await client.series("q")
    assert (found.labels, found.value, found.unix_seconds) == ({"model": "m"}, 0.25, 10.5)
    assert await client.value("q") == 0.25


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("+Inf", math.inf), ("-Inf", -math.inf), ("1e-05", 1e-5)])
async def test_zero_and_infinity_are_values(text: str, value: float, answering: Answering) -> None:
    assert await (await answering(vector(text))).value("q") == value


@pytest.mark.parametrize("document", [vector(), vector("NaN")])
async def test_no_data_is_no_number(document: Any, answering: Answering) -> None:
    client = await answering(document)
    with pytest.raises(NoData, match=": q"):
        await client.value("q")


async def test_a_scalar_is_a_number(answering: Answering) -> None:
    client = await answering({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "2"]}})
    assert await client.value("q") == 2.0


ERROR = {"status": "error", "errorType": "bad_data", "error": "1:3: parse error: no closing parenthesis"}
HISTOGRAM = {"metric": {}, "histogram": [1.0, {"count": "3"}]}


@pytest.mark.parametrize(
    ("document", "status", "error", "words"),
    [
        (ERROR, 400, Refused, "bad_data: 1:3: parse error"),
        ({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503, Refused, "timeout"),
        (vector("1", "2"), 200, Refused, "2 series; aggregate them"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, 200, Refused, "gives a matrix"),
        ({"status": "success", "data": {"resultType": "vector", "result": [HISTOGRAM]}}, 200, Refused, "histogram"),
        (b"<html>bad gateway</html>", 502, Unreachable, "is no Prometheus: HTTP 502"),
        (b"[]", 200, Unreachable, "is no Prometheus"),
        ({"hello": "world"}, 200, Unreachable, "is no Prometheus"),
        (None, 200, Unreachable, "in 0.5 s"),
    ],
)
async def test_what_is_no_answer(
    document: Any, status: int, error: type[PrometheusError], words: str, answering: Answering
) -> None:
    client = await answering(document, status)
    with pytest.raises(error, match=words):
        await client.value("q")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "no address", "http://"])
async def test_nobody_there(url: str) -> None:
    async with Prometheus(url, timeout_seconds=5) as client:
        with pytest.raises(Unreachable, match=r"check cluster\.prometheusUrl"):
            await client.series("q")
