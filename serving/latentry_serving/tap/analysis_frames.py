"""How a captured call travels to the analysis process, and the verdicts back. Pure.

The forwarding process imports this and, for its memory's sake, nothing of the decoder.

To it: 12 bytes (lengths of head and payload), the head as JSON, the payload as it is: request, then answer. A head with
``control`` is no call but an order, and has no verdict.
Back, line by line: a JSON list of verdicts, one per call, in order; or ``R``, a monitoring report as JSON, a tab, and
the state for the next process as JSON; or ``I``, a piece of the recent inputs (``compare_recent``).
"""

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

from pydantic import TypeAdapter

from latentry_serving.contract.metrics import SampleLoss
from latentry_serving.sli.calls import MessageHead
from latentry_serving.tap.capture import CapturedCall, Piece

LENGTHS = Struct(">IQ")
MAX_VERDICTS = 64
"""In one line."""


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


def framed(call: CapturedCall, time_s: float) -> list[bytes | Piece]:
    """The pieces to send, the payload's by reference."""
    head = json.dumps(
        {
            "protocol": call.protocol,
            "operation": call.operation,
            "kind": call.kind,
            "time_s": time_s,
            "request": _body(call.request_head, call.request),
            "response": _body(call.response_head, call.response),
        }
    ).encode()
    return [LENGTHS.pack(len(head), call.bytes), head, *call.request, *call.response]


def framed_control(control: Control, payload: bytes = b"", **fields: int) -> list[bytes]:
    """The pieces of an order."""
    head = json.dumps({"control": control, **fields}).encode()
    return [LENGTHS.pack(len(head), len(payload)), head, payload]


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


def _body(head: MessageHead, pieces: Sequence[Piece]) -> dict[str, str | int]:
    fields = {
        "content_type": head.content_type,
        "content_encoding": head.content_encoding,
        "grpc_encoding": head.grpc_encoding,
        "header_length": head.header_length,
    }
    present = {name: value.decode("latin-1") for name, value in fields.items() if value}
    return {"bytes": sum(map(len, pieces)), **present}
