"""`/metrics/triton` of the admin API: what Triton counts itself (queue time, batch sizes, GPUs), passed on as it is.

Triton's metrics port is on loopback, where Prometheus cannot reach it. It is asked when somebody asks the tap.
"""

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from latentry_serving.contract.ports import TRITON_METRICS_PATH
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.http1_heads import parse_response_head
from latentry_serving.tap.observation import SightLost

MOST_BYTES = 4 * 2**20
"""A thousand models' worth."""
ANSWER_SECONDS = 2.0
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_OK = 200


class NoMetrics(Exception):
    """Triton gave none; the text says why and what to do."""


def triton_metrics_router(
    triton: Address, *, seconds: float = ANSWER_SECONDS, most_bytes: int = MOST_BYTES
) -> APIRouter:
    """The route.

    Args:
        triton: where Triton serves its metrics.
        seconds: how long all of an answer may take.
        most_bytes: of an answer.
    """
    router = APIRouter()

    @router.get(TRITON_METRICS_PATH)
    async def metrics() -> Response:
        try:
            return Response(await triton_metrics(triton, seconds, most_bytes), headers={"content-type": _CONTENT_TYPE})
        except NoMetrics as error:
            return PlainTextResponse(f"{error}\n", status_code=503)

    return router


async def triton_metrics(triton: Address, seconds: float, most_bytes: int) -> bytes:
    """Triton's metrics in Prometheus' text format.

    Raises:
        NoMetrics: Triton does not answer in time, or with something else, or with too much.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _ask(triton, most_bytes)
    except TimeoutError as error:
        raise NoMetrics(f"Triton at {triton} did not send its metrics within {seconds:g} s") from error
    except (OSError, EOFError, SightLost, asyncio.LimitOverrunError) as error:
        remedy = "start Triton with its metrics there, or set upstreamMetrics"
        raise NoMetrics(f"Triton gives no metrics at {triton}: {error}; {remedy}") from error


async def _ask(triton: Address, most_bytes: int) -> bytes:
    reader, writer = await asyncio.open_connection(triton.host, triton.port)
    try:
        writer.write(_REQUEST)
        head = parse_response_head(await reader.readuntil(_HEAD_END))
        if head.status != _OK:
            raise NoMetrics(f"Triton at {triton} answered with HTTP status {head.status} in place of its metrics")
        if not 0 <= head.body_bytes <= most_bytes:
            raise NoMetrics(f"Triton at {triton} sends metrics of unknown length, or of more than {most_bytes} bytes")
        return await reader.readexactly(head.body_bytes)
    finally:
        writer.close()
