"""The admin API: metrics, health and SLIs, on its own port."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from latentry_serving.contract.slis import Slis
from latentry_serving.tap.readiness import Readiness
from latentry_serving.telemetry.prometheus import render


class Health(BaseModel):
    """Answer of `/healthz` and `/readyz`."""

    ok: bool
    reasons: list[str]
    """Why not; empty when ok."""


def admin_app(
    registry: CollectorRegistry, readiness: Readiness, slis: Callable[[], Slis], more: Sequence[APIRouter] = ()
) -> FastAPI:
    """The admin API as an ASGI application; ``more`` adds what is served elsewhere, or not by every tap."""
    app = FastAPI(title="latentry tap", docs_url=None, redoc_url=None)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        body, content_type = render(registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health(ok=True, reasons=[])

    @app.get("/readyz")
    async def readyz(response: Response) -> Health:
        reasons = await readiness.reasons()
        if reasons:
            response.status_code = 503
        return Health(ok=not reasons, reasons=reasons)

    @app.get("/slis", response_model_by_alias=True)
    async def read_slis() -> Slis:
        return slis()

    for router in more:
        app.include_router(router)
    return app
