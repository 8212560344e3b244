"""`/contract`, `/compare` and `/evidence` of the admin API: what a rollout's gates are judged from."""

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from latentry_serving.contract.comparison import (
    MOST_NORM_RATIO,
    MOST_SAMPLE_BYTES,
    SAMPLE_CONTENT_TYPE,
    ComparisonReport,
)
from latentry_serving.contract.contract_report import ContractReport
from latentry_serving.contract.drift_report import MonitoringReport
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.slis import Latency, Slis
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.contract.tap_evidence import TapEvidence
from latentry_serving.tap.bundle_views import probes_report
from latentry_serving.tap.watchers import Watchers

if TYPE_CHECKING:
    from latentry_serving.tap.bundle_watch import BundleWatch
    from latentry_serving.tap.comparing import Comparing

_BODY_SECONDS = 30.0
_MAP_FILES = {"map.npy": "application/octet-stream", "map.json": "application/json"}
_Share = Annotated[float, Query(ge=-1, le=1)]
_Ratio = Annotated[float, Query(alias="normRatio", gt=1, le=MOST_NORM_RATIO)]


def rollout_routers(
    config: TapConfig,
    slis: Callable[[], Slis],
    latency: Callable[[], Latency],
    watchers: Watchers,
    watch: "BundleWatch | None",
) -> list[APIRouter]:
    """All of them. Without a bundle there is nothing to compare."""
    if watch is None:
        return [evidence_router(slis, latency, watchers.monitoring.report, None, None)]
    # Imported here: numpy takes memory that a tap without a bundle can do without.
    from latentry_serving.tap.comparing import Comparing

    comparing = Comparing(watch.source, config.upstream_http, watch.desk, watchers.recent_inputs)
    return [evidence_router(slis, latency, watchers.monitoring.report, watch, comparing), compare_router(comparing)]


def evidence_router(
    slis: Callable[[], Slis],
    latency: Callable[[], Latency],
    monitoring: Callable[[], MonitoringReport],
    watch: "BundleWatch | None",
    comparing: "Comparing | None",
) -> APIRouter:
    """What every tap serves, with a bundle or without. The handler runs in a thread: it may have to ask Triton."""
    router = APIRouter()

    @router.get("/evidence", response_model_by_alias=True)
    def evidence() -> TapEvidence:
        report = monitoring()
        return TapEvidence(
            slis=slis(),
            latency=Latency(inference=latency().inference, operations=[]),
            probes=probes_report(watch) if watch is not None else None,
            drift=report.drift,
            health=report.health,
            contract=comparing.contract.report() if comparing is not None else None,
            comparison=comparing.desk.report() if comparing is not None else None,
        )

    return router


def compare_router(comparing: "Comparing") -> APIRouter:
    """What the admin API adds for a tap with a bundle."""
    router = APIRouter()
    handing_out = threading.Lock()

    @router.get("/contract", response_model_by_alias=True)
    def contract() -> ContractReport:
        return comparing.contract.report()

    @router.get("/compare/sample")
    def sample() -> Response:
        if not handing_out.acquire(blocking=False):
            raise HTTPException(409, "a sample is being handed out already; ask again")
        try:
            return Response(comparing.sample(), media_type=SAMPLE_CONTENT_TYPE)
        except OperationFailed as error:
            raise HTTPException(503, str(error)) from error
        finally:
            handing_out.release()

    @router.get("/compare/{name}")
    async def map_file(name: str) -> Response:
        data = comparing.desk.files.get(name)
        if data is None:
            raise HTTPException(404, "no map was fitted; GET /compare says why")
        return Response(data, media_type=_MAP_FILES[name])

    router.include_router(_comparing_router(comparing))
    return router


def _comparing_router(comparing: "Comparing") -> APIRouter:
    router = APIRouter()

    @router.get("/compare", response_model_by_alias=True)
    async def comparison() -> ComparisonReport:
        return comparing.desk.report()

    @router.post("/compare", status_code=202, response_model_by_alias=True)
    async def compare(
        request: Request,
        cosine: _Share = 0.98,
        overlap: _Share = 0.9,
        recall: _Share = 0.95,
        norm_ratio: _Ratio = 1.25,
    ) -> ComparisonReport:
        from latentry_serving.tap.compare_desk import Limits

        # No page in a browser may send this type elsewhere without being asked first, and nobody answers that.
        if request.headers.get("content-type", "") != SAMPLE_CONTENT_TYPE:
            raise HTTPException(415, f"the body must be {SAMPLE_CONTENT_TYPE}")
        body = await _body(request)
        try:
            comparing.desk.start(body, Limits(cosine, overlap, recall, norm_ratio))
        except InvalidInput as error:
            raise HTTPException(422, str(error)) from error
        except OperationFailed as error:
            raise HTTPException(409, str(error)) from error
        return comparing.desk.report()

    return router


async def _body(request: Request) -> bytes:
    """The whole body, bounded in size and time."""
    too_large = HTTPException(413, f"more than {MOST_SAMPLE_BYTES} bytes")
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > MOST_SAMPLE_BYTES:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MOST_SAMPLE_BYTES:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive in {_BODY_SECONDS:g} s") from error
    return bytes(data)
