"""Hostile connections: work grows with the bytes sent and no faster, and what an observer keeps stays small.

Work is counted in calls the interpreter makes, memory in bytes it holds on to: both are the same on every machine.
Covered: HPACK bombs, endless CONTINUATION, giant and dripping heads, announced 4 GB, empty and tiny frames and chunks,
numbers of thousands of digits, names and compressed names that drip in.
"""

import gc
import sys
import tracemalloc
import zlib

import pytest
from hpack import Encoder

from latentry_serving.tap.grpc_message import ModelNameReader
from latentry_serving.tap.http2_framing import CLIENT_PREFACE

POST = b"POST /v2/models/digits_encode/infer HTTP/1.1\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 0x1, 0x4
REQUEST = Encoder().encode([(":method", "POST"), (":path", "/inference.GRPCInferenceService/ModelInfer")])
KEPT_BYTES = 200_000


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def bytewise(data):
    return [data[i : i + 1] for i in range(len(data))]


def work(act) -> int:
    """Calls that the interpreter makes, into Python and into C alike."""
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    gc.disable()  # hypothesis counts collections in a callback of its own
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


HTTP1 = {
    "dripping head": lambda n: bytewise((POST + b"A: b\r\n" * n)[: 30 * n]),
    "empty lines": lambda n: [b"\r\n" * n],
    "one-byte chunks": lambda n: [POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * n],
    "dripping chunk size": lambda n: [
        POST + b"Transfer-Encoding: chunked\r\n\r\n",
        *bytewise(b"1;" + b"x" * min(n, 4_000)),
    ],
    "dripping trailers": lambda n: [
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        *bytewise(b"A: b\r\n" * n),
    ],
    "4 GB announced": lambda n: [POST + b"Content-Length: 4294967296\r\n\r\n", *[b"x" * 100] * n],
}
HTTP2 = {
    "empty DATA": lambda n: [frame(HEADERS, END_HEADERS, 1, REQUEST), frame(DATA, 0, 1) * n],
    "one-byte DATA": lambda n: [frame(HEADERS, END_HEADERS, 1, REQUEST), frame(DATA, 0, 1, b"x") * n],
    "dripping DATA": lambda n: [frame(HEADERS, END_HEADERS, 1, REQUEST), *bytewise(frame(DATA, 0, 1, b"x" * n))],
    "dripping HEADERS": lambda n: bytewise(frame(HEADERS, END_HEADERS, 1, b"\x82" * min(n, 1_500))),
    "empty SETTINGS": lambda n: [frame(SETTINGS, 0, 0) * n],
    "long SETTINGS": lambda n: [frame(SETTINGS, 0, 0, b"\0\1\0\0\x10\0" * n)],
    "PINGs": lambda n: [frame(PING, 0, 0, b"p" * 8) * n],
    "streams opened and given up": lambda n: [
        frame(HEADERS, END_HEADERS, 2 * i + 1, REQUEST) + frame(RST_STREAM, 0, 2 * i + 1, b"\0" * 4) for i in range(n)
    ],
    "unknown frames": lambda n: [frame(200, 255, 7, b"x" * 3) * n],
    "table size updates": lambda n: [frame(HEADERS, END_HEADERS, 1, b"\x20" * n)],
}


@pytest.mark.parametrize(
    ("protocol", "attack"), [("http1", name) for name in HTTP1] + [("http2", name) for name in HTTP2]
)
def test_work_is_linear_and_memory_bounded(protocol, attack, request):
    make = request.getfixturevalue(protocol)
    pieces_of = (HTTP1 if protocol == "http1" else HTTP2)[attack]
    preface = [CLIENT_PREFACE] if protocol == "http2" else []

    def attacked(n):
        pieces = [("client", piece) for piece in [*preface, *pieces_of(n)]]
        replay = make()
        replay.feed([])
        tracemalloc.start()
        calls = work(lambda: replay.feed(pieces))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        replay.recorder.told.clear()
        return calls, kept

    once, twice = attacked(1_000), attacked(2_000)
    assert twice[0] <= 2.1 * once[0] + 100
    assert twice[1] < KEPT_BYTES + 2_000 * 700, "a recorded call takes about 600 bytes here"


def huffman(size):
    return b"\0" + b"\xff" + (size - 127).to_bytes(2, "little") + b"\xff" * size


BOMBS = {
    "indexed fields": b"\x82" * 60_000,
    "one large entry, repeated": b"\x40\x01a\x7f\x80\x1e" + b"v" * 3_967 + b"\xbe" * 50_000,
    "an integer without end": b"\x7f" + b"\xff" * 60_000,
    "a string longer than its block": b"\0\x7f\xff\xff\xff\x7f" + b"a" * 100,
    "Huffman padding": huffman(50_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_header_bombs_lose_sight_cheaply(bomb, http2):
    replay = http2()
    block = BOMBS[bomb]
    pieces = [frame(HEADERS, 0, 1, block[:16_384])]
    pieces += [frame(CONTINUATION, 0, 1, block[i : i + 16_384]) for i in range(16_384, len(block), 16_384)]
    pieces[-1] = pieces[-1][:4] + bytes([END_HEADERS]) + pieces[-1][5:]
    tracemalloc.start()
    calls = work(lambda: replay.feed([("client", CLIENT_PREFACE), ("client", b"".join(pieces))]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert replay.lost in ("too_large", "malformed")
    assert calls < 5 * len(block), "about a call per byte, and some for the frames"
    assert peak < 20 * 65_536


@pytest.mark.parametrize("payload", [b"", b"\x82", b"\x82" * 1_000], ids=["empty", "small", "large"])
def test_endless_continuation_loses_sight(payload, http2):
    replay = http2()
    start = CLIENT_PREFACE + frame(HEADERS, 0, 1)
    replay.feed([("client", start), *[("client", frame(CONTINUATION, 0, 1, payload))] * 100])
    assert replay.lost == "too_large"


@pytest.mark.parametrize("number", [b"9" * 5_000, b"0" * 5_000])
def test_numbers_of_thousands_of_digits(number, http1, http2):
    over_http1 = http1()
    over_http1.feed([("client", POST + b"Content-Length: " + number + b"\r\n\r\nabc")])
    assert over_http1.lost in (None, "malformed")
    for fields in ([(b":status", number)], [(b":status", b"200"), (b"grpc-status", number)]):
        over_http2 = http2()
        answer = Encoder().encode(fields, huffman=False)
        over_http2.feed(
            [
                ("client", CLIENT_PREFACE + frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST)),
                ("server", frame(HEADERS, END_HEADERS | END_STREAM, 1, answer)),
            ]
        )
        assert over_http2.told[-1][2] == "server_error"
    timeout = Encoder().encode(
        [(":path", "/inference.GRPCInferenceService/ModelInfer"), ("grpc-timeout", number.decode() + "S")]
    )
    http2().feed([("client", CLIENT_PREFACE + frame(HEADERS, END_HEADERS, 1, timeout))])


def test_a_giant_head_is_too_large(http1):
    replay = http1()
    replay.feed([("client", POST), *[("client", b"A: " + b"b" * 1_000 + b"\r\n")] * 70])
    assert replay.lost == "too_large"


def gzipped(message):
    squeeze = zlib.compressobj(0, wbits=31)
    return squeeze.compress(message) + squeeze.flush()


@pytest.mark.parametrize("encoding", [b"", b"gzip"])
def test_a_dripping_name_is_read_once(encoding):
    fields = b"\x10\x00" * 600  # varints of field 2: the name may still follow
    message = gzipped(fields) if encoding else fields
    data = (b"\1" if encoding else b"\0") + len(message).to_bytes(4) + message

    def drip(size):
        reader = ModelNameReader(encoding)
        for i in range(size):
            assert not reader.feed(data, i, i + 1)

    assert work(lambda: drip(1_000)) < 2.2 * work(lambda: drip(500))


def test_a_name_bomb_inflates_to_a_kilobyte_at_most():
    bomb = zlib.compressobj(9, wbits=31)
    message = bomb.compress(b"\x10\x00" * 50_000_000) + bomb.flush()
    reader = ModelNameReader(b"gzip")
    data = b"\1" + len(message).to_bytes(4) + message
    tracemalloc.start()
    assert reader.feed(data, 0, len(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.name is None
    assert peak < 100_000


@pytest.mark.parametrize("encoding", [b"", b"gzip"])
def test_a_name_is_the_same_however_it_drips(encoding):
    fields = b"\x10\x07" + b"\x1a\x02id" + b"\x0a\x0ddigits_encode" + b"\x22\x01x"
    message = gzipped(fields) if encoding else fields
    data = (b"\1" if encoding else b"\0") + len(message).to_bytes(4) + message
    for cut in range(len(data)):
        reader = ModelNameReader(encoding)
        if not reader.feed(data, 0, cut):
            assert reader.feed(data, cut, len(data))
        assert reader.name == b"digits_encode"
