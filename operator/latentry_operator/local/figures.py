"""The table's figures of a model, read from the tap of the revision that it shows."""

import logging

import httpx

from latentry_operator.local.snapshot import Traffic
from latentry_serving.contract.metrics import SERVER_FAULTS
from latentry_serving.contract.slis import Slis

_log = logging.getLogger(__name__)


async def read_traffic(client: httpx.AsyncClient, tap: str) -> Traffic | None:
    """What a tap counted; None when it does not say.

    Args:
        tap: URL of its admin API.
    """
    try:
        answer = (await client.get(f"{tap}/slis")).raise_for_status()
    except httpx.HTTPError as error:
        _log.warning("no SLIs from %s: %s", tap, error)
        return None
    return traffic(Slis.model_validate_json(answer.content))


def traffic(slis: Slis) -> Traffic:
    """Rate and latency over the last minute, counts since the start."""
    total, recent = slis.inference.total, slis.inference.recent
    return Traffic(
        requests_per_second=recent.requests_per_second,
        p50_seconds=recent.latency_seconds.p50,
        p99_seconds=recent.latency_seconds.p99,
        requests=total.requests,
        errors=sum(total.outcomes.get(outcome, 0) for outcome in SERVER_FAULTS),
    )
