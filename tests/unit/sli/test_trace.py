"""The caller's place in a trace, by the examples and rules of W3C Trace Context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentry_serving.sli.trace import TraceContext, parse_trace_context

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KNOWN = TraceContext(int(TRACE, 16), int(PARENT, 16), sampled=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{PARENT}-01", KNOWN),
        (f"  00-{TRACE}-{PARENT}-01\t", KNOWN),
        (f"00-{TRACE}-{PARENT}-00", KNOWN._replace(sampled=False)),
        (f"00-{TRACE}-{PARENT}-02", KNOWN._replace(sampled=False)),
        (f"00-{TRACE}-{PARENT}-03", KNOWN),
        (f"cc-{TRACE}-{PARENT}-01", KNOWN),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", KNOWN),
        (f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like", None),
        (f"00-{TRACE}-{PARENT}-01-what-the-future-will-be-like", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}", None),
        (f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01", None),
        ("", None),
    ],
)
def test_traceparent(text, expected):
    assert parse_trace_context(text.encode(), b"") == expected


def test_tracestate_goes_along_unless_it_is_huge():
    parent = f"00-{TRACE}-{PARENT}-01".encode()
    assert parse_trace_context(parent, b"a=1,b=2").state == "a=1,b=2"
    assert parse_trace_context(parent, b"a=" + b"1" * 5_000).state == ""


@given(traceparent=st.binary(max_size=80), tracestate=st.binary(max_size=80))
def test_no_bytes_raise(traceparent, tracestate):
    parse_trace_context(traceparent, tracestate)
    parse_trace_context(f"00-{TRACE}-{PARENT}-01".encode() + traceparent, tracestate)
