"""Hostile bytes: no exception but the loss of sight escapes an observer, and remembered header blocks never lie."""

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from latentry_serving.tap.http2_framing import CLIENT_PREFACE
from latentry_serving.tap.http2_headers import HeaderBlocks
from latentry_serving.tap.observation import SightLost

HTTP1_WORDS = [
    b"POST /v2/models/digits_encode/infer HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"HEAD /v2 HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"abc",
    b"\r\n",
    b"\n",
]
FRAMES = st.builds(
    lambda kind, flags, stream, payload, extra: (
        (len(payload) + extra).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload
    ),
    kind=st.sampled_from([*range(11), 255]),
    flags=st.integers(0, 255),
    stream=st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1]),
    payload=st.one_of(st.binary(max_size=40), st.sampled_from([b"\x82\x86\x84", b"\x88", b"\0\1\0\0\0\0", b"\0" * 8])),
    extra=st.sampled_from([0, 0, 0, 1, 100]),
)
SIDES = st.sampled_from(["client", "server"])


def harmless(replay, pieces):
    """Everything a connection can do to an observer, up to its end."""
    replay.feed(pieces)
    if replay.lost is None:
        assert replay.observer.idle in (True, False)
        replay.observer.client_gone(1.0)
        replay.observer.server_gone(1.0, in_order=True)
        replay.observer.closed(1.0)
        assert {call.outcome is not None for call in replay.recorder.calls} <= {True}
    started = [event[1] for event in replay.recorder.told if event[0] == "started"]
    finished = [event[1] for event in replay.recorder.told if event[0] == "finished"]
    assert sorted(started) == sorted(finished), "every call is let go of exactly once"


@given(st.lists(st.tuples(SIDES, st.one_of(st.sampled_from(HTTP1_WORDS), st.binary(max_size=20))), max_size=25))
@settings(max_examples=400, deadline=None)
def test_http1(http1, pieces):
    harmless(http1(), pieces)


@given(st.lists(st.tuples(SIDES, st.one_of(FRAMES, FRAMES, st.binary(min_size=1, max_size=20))), max_size=25))
@settings(max_examples=400, deadline=None)
def test_http2(http2, pieces):
    harmless(http2(), [("client", CLIENT_PREFACE), *pieces])


NAMES = st.sampled_from([":path", ":status", "grpc-status", "x-a", "x-b"])
VALUES = st.sampled_from(["", "0", "200", "/a", "v" * 60])
STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6),
        st.sampled_from([0, 64, 200, 4096]),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_remembered_blocks_equal_decoded_ones(steps):
    encoder, plain, blocks = Encoder(), Decoder(), HeaderBlocks()
    for step in steps:
        if isinstance(step, int):
            if step != encoder.header_table_size:  # hpack's encoder forgets to announce a size that is set twice
                encoder.header_table_size = step
            continue
        block = encoder.encode(step)
        expected = {bytes(name): bytes(value) for name, value in plain.decode(block, raw=True)}
        fields = blocks.decode(block)
        assert fields.path == expected.get(b":path", b"")
        assert fields.status == expected.get(b":status", b"")
        assert fields.grpc_status == expected.get(b"grpc-status", b"")


def test_a_block_means_something_else_once_the_table_changed():
    blocks, encoder = HeaderBlocks(), Encoder()
    blocks.decode(encoder.encode([("grpc-status", "1")]))
    newest = b"\xbe"
    assert blocks.decode(newest).grpc_status == b"1"
    assert blocks.decode(newest).grpc_status == b"1"
    blocks.decode(encoder.encode([("grpc-status", "2")]))
    assert blocks.decode(newest).grpc_status == b"2"


@given(st.lists(st.binary(max_size=60), max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_block_decodes_as_hpack_does_or_loses_sight(data):
    plain, blocks = Decoder(), HeaderBlocks()
    for block in data:
        try:
            expected = dict(plain.decode(block, raw=True))
        except HPACKError:
            with pytest.raises(SightLost):
                blocks.decode(block)
            return
        assert blocks.decode(block).path == expected.get(b":path", b"")
