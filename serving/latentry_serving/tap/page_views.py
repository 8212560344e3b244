"""The page at the admin API's root, and the documents it needs beside those that others read too: `/latency`,
`/history`."""

from collections.abc import Callable

from fastapi import APIRouter

from latentry_serving.contract.history import DriftHistory
from latentry_serving.contract.page import PageModel, PageModels, PageSource, TapDocument
from latentry_serving.contract.slis import Latency
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.page.routes import page_router
from latentry_serving.tap.history import HistoryKeeper
from latentry_serving.tap.readiness import Readiness

_OF_A_BUNDLE = frozenset({TapDocument.BUNDLE, TapDocument.PROBES})


def page_views(
    config: TapConfig,
    readiness: Readiness,
    latency: Callable[[], Latency],
    history: HistoryKeeper,
) -> APIRouter:
    """What every tap serves.

    Args:
        config: as applied: name and version of the model that is there.
    """
    documents = [name for name in TapDocument if config.bundle_dir is not None or name not in _OF_A_BUNDLE]

    async def models() -> PageModels:
        reasons = await readiness.reasons()
        model = PageModel(
            name=config.model,
            version=config.version,
            api="",
            documents=documents,
            phase="Not ready" if reasons else "Ready",
            message="; ".join(reasons),
        )
        return PageModels(source=PageSource.TAP, models=[model])

    router = APIRouter()

    @router.get("/latency", response_model_by_alias=True)
    async def read_latency() -> Latency:
        return latency()

    @router.get("/history", response_model_by_alias=True)
    async def read_history(since: float = 0.0) -> DriftHistory:
        return history.after(since)

    router.include_router(page_router(models))
    return router
