"""`/bundle` and `/probes` of the admin API, and the documents behind them."""

import math
from typing import TYPE_CHECKING

from fastapi import APIRouter

from latentry_serving.contract.bundle_report import BundleReport, OperationProbe, ProbesReport
from latentry_serving.contract.operations import Operation

if TYPE_CHECKING:
    from latentry_serving.tap.bundle_watch import BundleWatch
    from latentry_serving.tap.probes import ProbeRecord


def bundle_router(watch: "BundleWatch") -> APIRouter:
    """What the admin API adds for a tap with a bundle."""
    router = APIRouter()

    @router.get("/bundle", response_model_by_alias=True)
    async def bundle() -> BundleReport:
        return bundle_report(watch)

    @router.get("/probes", response_model_by_alias=True)
    async def probes() -> ProbesReport:
        return probes_report(watch)

    return router


def bundle_report(watch: "BundleWatch") -> BundleReport:
    """The bundle as it stands now."""
    source = watch.source
    return BundleReport(
        state=source.state,
        version=source.manifest.version,
        digest=source.digest,
        promised=source.promised,
        bytes=source.manifest.total_bytes,
        problems=list(source.problems),
        models=dict(watch.loader.loaded) if watch.loader is not None else {},
    )


def probes_report(watch: "BundleWatch") -> ProbesReport:
    """The golden probes up to now."""
    records = watch.prober.records
    return ProbesReport(
        passed=all(record.passed for record in records.values()),
        postponed=dict(watch.prober.postponed),
        operations=[_operation(operation, record) for operation, record in records.items()],
    )


def _operation(operation: Operation, record: "ProbeRecord") -> OperationProbe:
    verdict = record.verdict
    return OperationProbe(
        operation=operation,
        outcome=verdict.outcome if verdict else None,
        detail=verdict.detail if verdict else "",
        largest_error=_finite(verdict.largest_error) if verdict else None,
        determinism_error=_finite(verdict.determinism_error) if verdict else None,
        last_run_timestamp_seconds=record.ended_unix_s,
        duration_seconds=record.duration_s,
        outcomes=dict(record.outcomes),
    )


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
