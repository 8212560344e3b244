"""What a rollout asks of taps, over whatever HTTP client the body has: evidence, and carrying inputs.

Nothing is trusted about who answers: bounded in size and time, typed, no redirects.
"""

import json
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlencode

from pydantic import ValidationError

from latentry_operator.api.rollout import CompatibilityGate
from latentry_serving.contract.comparison import MOST_SAMPLE_BYTES, SAMPLE_CONTENT_TYPE
from latentry_serving.contract.tap_evidence import MOST_EVIDENCE_BYTES, TapEvidence

EVIDENCE_SECONDS = 5.0
"""A tap whose Triton hangs answers after some seconds."""
CARRY_SECONDS = 60.0
"""For each of the two halves of 32 MiB at most."""
_MOST_SMALL_BYTES = 64 * 1024
_OK, _ACCEPTED, _CONFLICT = 200, 202, 409
_SHOWN_CHARACTERS = 300


class ReadFailed(Exception):
    """No usable answer; the text says why, for people."""


class Fetch(Protocol):
    """One HTTP call, without redirects; status and body."""

    async def __call__(
        self, method: str, url: str, *, body: bytes, content_type: str, most_bytes: int, timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Sends ``body`` with its type, both empty for none.

        Raises:
            ReadFailed: no answer in time, or more bytes than that.
        """


async def read_evidence(fetch: Fetch, url: str) -> TapEvidence:
    """What the tap with that admin URL (``http://host:port``) says now.

    Raises:
        ReadFailed: it does not answer, or not as a tap.
    """
    status, body = await _get(fetch, f"{url}/evidence", most_bytes=MOST_EVIDENCE_BYTES, seconds=EVIDENCE_SECONDS)
    if status != _OK:
        raise ReadFailed(f"{url}/evidence answers with HTTP {status}")
    try:
        return TapEvidence.model_validate_json(body)
    except ValidationError as error:
        raise ReadFailed(f"{url} answers with what is no tap's evidence") from error


async def carry_sample(fetch: Fetch, stable_url: str, candidate_url: str, rules: CompatibilityGate) -> None:
    """Carries inputs and embeddings of stable to the candidate, which then compares them by itself.

    Raises:
        ReadFailed: one of the two does not answer, or refuses. A candidate that compares already is no failure.
    """
    path = f"{stable_url}/compare/sample"
    status, sample = await _get(fetch, path, most_bytes=MOST_SAMPLE_BYTES, seconds=CARRY_SECONDS)
    if status != _OK:
        raise ReadFailed(f"the stable revision's tap gives no inputs: HTTP {status}, {_told(sample)}")
    limits = {
        "cosine": rules.min_paired_cosine,
        "overlap": rules.min_neighbour_overlap,
        "recall": rules.min_cross_recall,
        "normRatio": rules.max_norm_ratio,
    }
    status, answer = await fetch(
        "POST",
        f"{candidate_url}/compare?{urlencode(limits)}",
        body=sample,
        content_type=SAMPLE_CONTENT_TYPE,
        most_bytes=_MOST_SMALL_BYTES,
        timeout_seconds=CARRY_SECONDS,
    )
    if status not in (_ACCEPTED, _CONFLICT):
        raise ReadFailed(f"the candidate's tap takes no inputs: HTTP {status}, {_told(answer)}")


async def _get(fetch: Fetch, url: str, *, most_bytes: int, seconds: float) -> tuple[int, bytes]:
    return await fetch("GET", url, body=b"", content_type="", most_bytes=most_bytes, timeout_seconds=seconds)


def _told(body: bytes) -> str:
    """What an error answer says, shortened."""
    text = body.decode("utf-8", errors="replace")
    with suppress(ValueError, TypeError, KeyError, IndexError):
        text = str(json.loads(body)["detail"])
    return text[:_SHOWN_CHARACTERS] or "without a reason"
