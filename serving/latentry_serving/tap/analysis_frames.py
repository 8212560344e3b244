"""How a captured call travels to the analysis process, and the verdicts back. Pure.

The forwarding process imports this and, for its memory's sake, nothing of the decoder.

To it: 28 bytes (lengths of head, request and answer; unix time of the answer's last byte), the head as JSON, request
and answer as they are. A head says only what calls have in common, so that either end makes or reads it once for
thousands. One with ``control`` is no call but an order, has its payload in the request's place, and no verdict.
Back, line by line: a JSON list of verdicts, one per call, in order; or ``R``, a monitoring report as JSON, a tab, and
the state for the next process as JSON; or ``I``, a piece of the recent inputs (``compare_recent``).
"""

import json
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from pydantic import TypeAdapter

from latentry_serving.contract.metrics import CallKind, Protocol, SampleLoss
from latentry_serving.sli.calls import MessageHead
from latentry_serving.tap.capture import CapturedCall, Piece

LENGTHS = Struct(">IQQd")
MAX_VERDICTS = 64
"""In one line."""
KNOWN_HEADS = 32
"""Remembered at either end; more would let clients fill the memory with headers."""

CONTROL_HEAD = b'{"control"'
"""How the head of an order begins."""
_REPORT = b"R"
_TAB = b"\t"
"""JSON never holds a bare one."""


class Control(StrEnum):
    """Orders to the process."""

    RESTORE = "restore"
    """Go on from a state: the payload."""
    SCORE = "score"
    """So many ``rows`` may be scored now."""
    INPUTS = "inputs"
    """Send the recent inputs, as the answer to a ``number``."""


class Finding(StrEnum):
    """What a consumer may count in a sample."""

    NON_FINITE = "non_finite"
    """Output values that are NaN or infinite."""


class Verdict(NamedTuple):
    """What became of one call: lost for a reason, or analysed with findings."""

    loss: SampleLoss | None
    found: dict[Finding, int]


_VERDICTS = TypeAdapter(list[Verdict])


class Frame(NamedTuple):
    """What arrives. ``request`` and ``response`` are read-only."""

    head: bytes
    time_s: float
    request: memoryview
    response: memoryview


def framed(call: CapturedCall, time_s: float) -> list[bytes | Piece]:
    """The pieces to send, the payload's by reference."""
    request, response = _headers(call.request_head), _headers(call.response_head)
    head = _head(call.protocol, call.operation, call.kind, request, response)
    request_bytes = sum(map(len, call.request))
    lengths = LENGTHS.pack(len(head), request_bytes, call.bytes - request_bytes, time_s)
    return [lengths, head, *call.request, *call.response]


def framed_control(control: Control, payload: bytes = b"", **fields: int) -> list[bytes]:
    """The pieces of an order."""
    head = json.dumps({"control": control, **fields}).encode()
    return [LENGTHS.pack(len(head), len(payload), 0, 0.0), head, payload]


def write_report(report: bytes, state: bytes) -> bytes:
    """One line of two JSON documents."""
    return _REPORT + report + _TAB + state + b"\n"


def read_report(line: bytes) -> tuple[bytes, bytes] | None:
    """Report and state as JSON; None where a line holds verdicts."""
    if not line.startswith(_REPORT):
        return None
    report, _, state = line[1:].partition(_TAB)
    return report, state


def write_verdicts(verdicts: Iterable[Verdict]) -> bytes:
    """One line."""
    return json.dumps([list(verdict) for verdict in verdicts]).encode() + b"\n"


def read_verdicts(line: bytes) -> list[Verdict]:
    """Reads a line.

    Raises:
        ValueError: it is none.
    """
    return _VERDICTS.validate_json(line)


_HEADERS = ("content_type", "content_encoding", "grpc_encoding", "header_length")


def _headers(head: MessageHead) -> tuple[bytes, ...]:
    return head.content_type, head.content_encoding, head.grpc_encoding, head.header_length


@lru_cache(KNOWN_HEADS)
def _head(
    protocol: Protocol, operation: str, kind: CallKind, request: tuple[bytes, ...], response: tuple[bytes, ...]
) -> bytes:
    common = {"protocol": protocol, "operation": operation, "kind": kind}
    return json.dumps(common | {"request": _given(request), "response": _given(response)}).encode()


def _given(headers: tuple[bytes, ...]) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in zip(_HEADERS, headers, strict=True) if value}
