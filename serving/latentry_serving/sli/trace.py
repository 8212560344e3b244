"""The caller's place in a distributed trace, as its request says. Pure.

Source: W3C Trace Context, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 0x01
_MAX_STATE_BYTES = 4_096


class TraceContext(NamedTuple):
    """Where a call belongs.

    Attributes:
        trace_id: 128 bits, never 0.
        parent_id: the caller's span, 64 bits; 0 where the trace begins here.
        sampled: whether spans of this trace are recorded.
        state: the ``tracestate`` field as received, empty when absent.
    """

    trace_id: int
    parent_id: int
    sampled: bool
    state: str = ""


def parse_trace_context(traceparent: bytes, tracestate: bytes) -> TraceContext | None:
    """Reads both fields; None when ``traceparent`` is not valid, which the standard wants ignored.

    Versions after 00 are read as far as 00 goes. A ``tracestate`` beyond 4 KiB is left out.
    """
    if not traceparent:
        return None
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    trace, parent = int(trace_id, 16), int(parent_id, 16)
    if version == b"ff" or (version == b"00" and more is not None) or not trace or not parent:
        return None
    state = tracestate.decode("latin-1") if len(tracestate) <= _MAX_STATE_BYTES else ""
    return TraceContext(trace, parent, bool(int(flags, 16) & _SAMPLED), state)
