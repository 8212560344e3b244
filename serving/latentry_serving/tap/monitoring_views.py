"""`/drift` and `/health-of-model` of the admin API."""

from fastapi import APIRouter

from latentry_serving.contract.drift_report import DriftReport, ModelHealth
from latentry_serving.tap.monitoring import MonitoringDesk


def monitoring_router(desk: MonitoringDesk) -> APIRouter:
    """What every tap serves, if only to say why nothing is watched."""
    router = APIRouter()

    @router.get("/drift", response_model_by_alias=True)
    async def drift() -> DriftReport:
        return desk.report().drift

    @router.get("/health-of-model", response_model_by_alias=True)
    async def health() -> ModelHealth:
        return desk.report().health

    return router
