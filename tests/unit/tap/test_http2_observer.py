"""gRPC over HTTP/2 read along. Covered: preface, SETTINGS with table sizes both ways, HEADERS with CONTINUATION,
padding and priority, interleaved streams, RST_STREAM of either side, GOAWAY, PING, WINDOW_UPDATE and unknown frames,
trailers-only answers, grpc-status and grpc-timeout, model names cut or compressed, limits. Every script gives the same
events however its bytes are cut."""

import gzip
import zlib

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

C, S = "client", "server"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION, UNKNOWN = (*range(10), 0xBE)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 0x20
STARTED = ("started", "encode", "unary")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def message(model: bytes = b"digits_encode", rest: bytes = b"\x12\x011" + bytes(20), *, flag: int = 0) -> bytes:
    """A ModelInferRequest as gRPC sends it."""
    body = b"\x0a" + bytes([len(model)]) + model + rest
    return bytes([flag]) + len(body).to_bytes(4) + body


def packed(data: bytes) -> bytes:
    return b"\x01" + len(data).to_bytes(4) + data


PLAIN = message()[5:]
INFER = message()
ANSWER = b"\0\0\0\0\x02ok"
DONE = ("finished", "encode", "ok", len(INFER), len(ANSWER))


class Talk:
    """Writes both sides of a connection."""

    def __init__(self) -> None:
        self.script = [(C, PREFACE + frame(SETTINGS, 0, 0)), (S, frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0))]
        self.encoders = {C: Encoder(), S: Encoder()}

    def say(self, side: str, *frames: bytes) -> "Talk":
        self.script.append((side, b"".join(frames)))
        return self

    def block(self, side: str, *headers: tuple[str, str]) -> bytes:
        return self.encoders[side].encode(headers)

    def request(self, *more: tuple[str, str], method: str = "ModelInfer") -> bytes:
        path = f"/inference.GRPCInferenceService/{method}"
        return self.block(C, (":method", "POST"), (":path", path), ("content-type", "application/grpc"), *more)

    def ask(self, stream: int, *more: tuple[str, str], data: bytes = INFER, method: str = "ModelInfer") -> "Talk":
        return self.say(
            C,
            frame(HEADERS, END_HEADERS, stream, self.request(*more, method=method)),
            frame(DATA, END_STREAM, stream, data),
        )

    def begin(self, stream: int) -> "Talk":
        return self.say(S, frame(HEADERS, END_HEADERS, stream, self.block(S, (":status", "200"))))

    def end(self, stream: int, status: str = "0") -> "Talk":
        return self.say(S, frame(HEADERS, END_HEADERS | END_STREAM, stream, self.block(S, ("grpc-status", status))))

    def answer(self, stream: int, status: str = "0") -> "Talk":
        return self.begin(stream).say(S, frame(DATA, 0, stream, ANSWER)).end(stream, status)


def continued() -> Talk:
    talk = Talk()
    block = talk.request()
    start = frame(HEADERS, PADDED | WITH_PRIORITY, 1, b"\x03" + bytes(5) + block[:7] + bytes(3))
    rest = frame(CONTINUATION, 0, 1, block[7:9]) + frame(CONTINUATION, END_HEADERS, 1, block[9:])
    data = frame(DATA, PADDED, 1, b"\x04" + INFER + bytes(4)) + frame(DATA, END_STREAM | PADDED, 1, b"\x02\0\0")
    return talk.say(C, start, rest, data).answer(1)


def between() -> Talk:
    talk = Talk().say(C, frame(PING, 0, 0, bytes(8)), frame(WINDOW, 0, 0, b"\0\0\1\0"), frame(PRIORITY, 0, 1, bytes(5)))
    talk.say(S, frame(UNKNOWN, 0xFF, 9, b"unknown"), frame(UNKNOWN, 0, 0), frame(PING, 1, 0, bytes(8)))
    return talk.ask(1).say(S, frame(WINDOW, 0, 1, b"\0\0\1\0")).answer(1)


def interleaved() -> Talk:
    talk = Talk()
    for stream in (1, 3):
        talk.say(C, frame(HEADERS, END_HEADERS, stream, talk.request()))
    talk.say(C, frame(DATA, 0, 1, INFER[:9]), frame(DATA, 0, 3, INFER[:12]), frame(DATA, END_STREAM, 3, INFER[12:]))
    return talk.say(C, frame(DATA, END_STREAM, 1, INFER[9:])).answer(3).answer(1)


def table_sizes() -> Talk:
    """Both sides allow more, use it, and go back to nothing."""
    allow = frame(SETTINGS, 0, 0, b"\0\1" + (16_384).to_bytes(4))
    talk = Talk().say(C, allow).say(S, allow)
    for stream, size in ((1, 16_384), (3, 100), (5, 0)):
        for encoder in talk.encoders.values():
            encoder.header_table_size = size
        talk.ask(stream, ("x-large", "v" * 200)).answer(stream)
    return talk


def interim() -> Talk:
    talk = Talk().ask(1)
    return talk.say(S, frame(HEADERS, END_HEADERS, 1, talk.block(S, (":status", "103")))).answer(1)


def late_frames() -> Talk:
    """What is still under way when a stream is given up changes nothing, but its headers change the table."""
    talk = Talk().ask(1).say(C, frame(RST, 0, 1, bytes(4)))
    late = frame(HEADERS, END_HEADERS, 1, talk.block(S, (":status", "200"), ("x-new", "1")))
    talk.say(S, late, frame(DATA, 0, 1, ANSWER), frame(RST, 0, 1, bytes(4)))
    return talk.say(C, frame(DATA, 0, 1, b"x"), frame(HEADERS, 5, 1, talk.block(C, ("x-t", "1")))).ask(3).answer(3)


def server_stops_early() -> Talk:
    talk = Talk()
    talk.say(C, frame(HEADERS, END_HEADERS, 1, talk.request()), frame(DATA, 0, 1, INFER))
    return talk.answer(1, "8").say(S, frame(RST, 0, 1, bytes(4)))


def going_away() -> Talk:
    return Talk().ask(1).ask(3).say(S, frame(GOAWAY, 0, 0, (1).to_bytes(4) + bytes(4) + b"bye")).answer(1)


def first_message(data: bytes, *more: tuple[str, str], method: str = "ModelInfer") -> list[tuple[str, bytes]]:
    return Talk().ask(1, *more, data=data, method=method).answer(1).script


def told(operation: str, size: int, kind: str = "unary", outcome: str = "ok") -> list[tuple]:
    return [("started", operation, kind), ("finished", operation, outcome, size, len(ANSWER))]


LATE_NAME = message(rest=b"", model=b"digits_decode")
AFTER_OTHERS = b"\x12\x011" + b"\x18\x96\x01" + b"\x21" + bytes(8) + b"\x2d" + bytes(4) + LATE_NAME[5:]
GZIPPED, DEFLATED = packed(gzip.compress(PLAIN)), packed(zlib.compress(PLAIN))
BIG = message(rest=b"\x3a\xff\x7f" + bytes(16_383))
SCRIPTS = {
    "two calls": (Talk().ask(1).answer(1).ask(3).answer(3).script, [STARTED, DONE, STARTED, DONE]),
    "continued and padded": (continued().script, [STARTED, DONE]),
    "control frames in between": (between().script, [STARTED, DONE]),
    "interleaved": (interleaved().script, [STARTED, STARTED, DONE, DONE]),
    "table sizes": (table_sizes().script, [STARTED, DONE] * 3),
    "interim answer": (interim().script, [STARTED, DONE]),
    "trailers only": (
        Talk().ask(1).say(S, frame(HEADERS, 5, 1, Encoder().encode([(":status", "200"), ("grpc-status", "5")]))).script,
        [STARTED, ("finished", "encode", "client_error", len(INFER), 0)],
    ),
    "failures": (
        Talk().ask(1).answer(1, "3").ask(3).answer(3, "14").ask(5).answer(5, "4").ask(7).answer(7, "1").script,
        [
            e
            for o in ("client_error", "server_error", "deadline_exceeded", "cancelled")
            for e in told("encode", len(INFER), outcome=o)
        ],
    ),
    "no status": (
        Talk().ask(1).begin(1).say(S, frame(DATA, END_STREAM, 1, ANSWER)).script,
        told("encode", len(INFER), outcome="server_error"),
    ),
    "management": (
        Talk().ask(1, method="ServerLive", data=b"\0\0\0\0\0").answer(1).script,
        told("management", 5),
    ),
    "stream": (first_message(INFER * 3, method="ModelStreamInfer"), told("encode", 3 * len(INFER), "stream")),
    "other model": (first_message(message(b"cats")), told("other", len(message(b"cats")))),
    "name after other fields": (
        first_message(b"\0" + len(AFTER_OTHERS).to_bytes(4) + AFTER_OTHERS),
        told("decode", len(AFTER_OTHERS) + 5),
    ),
    "no name": (first_message(b"\0\0\0\0\x03\x12\x011"), told("other", 8)),
    "empty": (first_message(b""), told("other", 0)),
    "gzip": (first_message(GZIPPED, ("grpc-encoding", "gzip")), told("encode", len(GZIPPED))),
    "deflate": (first_message(DEFLATED, ("grpc-encoding", "deflate")), told("encode", len(DEFLATED))),
    "unknown encoding": (first_message(GZIPPED, ("grpc-encoding", "snappy")), told("other", len(GZIPPED))),
    "broken compression": (first_message(packed(b"gzip"), ("grpc-encoding", "gzip")), told("other", 9)),
    "cancelled": (
        Talk().ask(1).begin(1).say(C, frame(RST, 0, 1, (8).to_bytes(4))).script,
        [STARTED, ("finished", "encode", "cancelled", len(INFER), 0)],
    ),
    "deadline at the client": (
        Talk().ask(1, ("grpc-timeout", "1n")).say(C, frame(RST, 0, 1, (8).to_bytes(4))).script,
        [STARTED, ("finished", "encode", "deadline_exceeded", len(INFER), 0)],
    ),
    "reset by the server": (
        Talk().ask(1).begin(1).say(S, frame(RST, 0, 1, (2).to_bytes(4))).script,
        [STARTED, ("finished", "encode", "reset", len(INFER), 0)],
    ),
    "late frames": (
        late_frames().script,
        [STARTED, ("finished", "encode", "cancelled", len(INFER), 0), STARTED, DONE],
    ),
    "server stops early": (server_stops_early().script, told("encode", len(INFER), outcome="client_error")),
    "going away": (
        going_away().script,
        [STARTED, STARTED, ("finished", "encode", "reset", len(INFER), 0), DONE],
    ),
    "not HTTP/2": ([(C, b"GET / HTTP/1.1\r\n\r\n")], [("lost", "unknown_protocol")]),
    "push": (Talk().say(S, frame(PUSH, 4, 1, bytes(4))).script, [("lost", "unknown_protocol")]),
    "interrupted block": (
        Talk().say(C, frame(HEADERS, 0, 1, b"\x82"), frame(DATA, 0, 1, b"x")).script,
        [("lost", "malformed")],
    ),
    "broken block": (Talk().say(C, frame(HEADERS, 4, 1, b"\xff\xff\xff")).script, [("lost", "malformed")]),
    "padding too long": (Talk().say(C, frame(DATA, PADDED, 1, b"\x09ab")).script, [("lost", "malformed")]),
    "header padding too long": (Talk().say(C, frame(HEADERS, PADDED, 1, b"\x09ab")).script, [("lost", "malformed")]),
    "short GOAWAY": (Talk().say(S, frame(GOAWAY, 0, 0, b"abc")).script, [("lost", "malformed")]),
    "short SETTINGS": (Talk().say(S, frame(SETTINGS, 0, 0, b"abc")).script, [("lost", "malformed")]),
    "even stream": (Talk().ask(2).script, [("lost", "malformed")]),
    "lone continuation": (Talk().say(C, frame(CONTINUATION, 4, 1, b"")).script, [("lost", "malformed")]),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_cut_at_every_position(name, http2, cutting_everywhere):
    script, expected = SCRIPTS[name]
    for pieces in (script, *cutting_everywhere(script)):
        replay = http2()
        replay.feed(pieces)
        assert replay.told == expected


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_large_messages_cut_at_random(data, http2, cutting):
    talk = Talk()
    for stream in (1, 3, 5):
        talk.ask(stream, data=BIG, method="ModelStreamInfer").answer(stream)
    size = sum(len(part) for _, part in talk.script)
    replay = http2()
    replay.feed(cutting(talk.script, data.draw(st.lists(st.integers(1, size), max_size=40))))
    assert replay.told == told("encode", len(BIG), "stream") * 3
    assert replay.observer.idle


def test_times_are_of_first_and_last_bytes(http2):
    talk = Talk().ask(1).answer(1)
    (_, settings_c), (_, settings_s), (_, ask), (_, begin), (_, data), (_, end) = talk.script
    replay = http2()
    observer = replay.observer
    observer.client_sent(settings_c, 0.0)
    observer.server_sent(settings_s, 0.0)
    observer.client_sent(ask[:4], 1.0)
    observer.client_sent(ask[4:], 2.0)
    observer.server_sent(begin[:3], 3.0)
    observer.server_sent(begin[3:] + data, 4.0)
    observer.server_sent(end[:-1], 5.0)
    observer.server_sent(end[-1:], 6.0)
    call = replay.recorder.calls[0]
    assert (call.started_s, call.first_response_s, call.last_response_s) == (1.0, 3.0, 6.0)


@pytest.mark.parametrize(
    ("elapsed", "outcome"), [(0.05, "cancelled"), (0.2, "deadline_exceeded"), (0.199, "deadline_exceeded")]
)
def test_a_client_that_leaves_at_its_deadline(elapsed, outcome, http2):
    replay = http2()
    replay.feed(Talk().ask(1, ("grpc-timeout", "200m")).script)
    replay.observer.client_gone(elapsed)
    replay.observer.closed(elapsed)
    assert replay.told == [STARTED, ("finished", "encode", outcome, len(INFER), 0)]


def test_a_server_that_leaves_resets_every_open_call(http2):
    replay = http2()
    replay.feed(Talk().ask(1).ask(3).answer(3).script)
    replay.observer.server_gone(1.0, in_order=True)
    assert replay.told[-1] == ("finished", "encode", "reset", len(INFER), 0)
    assert replay.observer.idle


@pytest.mark.parametrize("name", ["table sizes", "between"])
def test_what_was_said_before_the_first_call_can_be_taken_back(name, http2):
    script = {"table sizes": table_sizes, "between": between}[name]().script
    fresh = http2()
    fresh.feed(script)
    opening = b"".join(data for side, data in script[:3] if side == C)
    for size in range(len(opening) + 1):
        replay = http2()
        replay.feed([(C, opening[:size])])
        assert replay.observer.take_back() == opening[:size]
        replay.feed(script)
        assert replay.told == fresh.told


@pytest.mark.parametrize(
    "script",
    [
        [(C, PREFACE), (S, b"\0")],
        Talk().ask(1).script[:1] + Talk().ask(1).script[2:],
        [(C, PREFACE + frame(WINDOW, 0, 0, b"\0\0\1\0") * 1_260)],
    ],
    ids=["Triton spoke", "a call began", "more than is kept"],
)
def test_what_cannot_be_taken_back(script, http2):
    replay = http2()
    replay.feed(script)
    assert replay.observer.take_back() is None


def bomb() -> list[bytes]:
    """One large table entry, referred to again and again."""
    encoder = Encoder()
    seed = frame(HEADERS, 4, 1, encoder.encode([("x", "v" * 4_000)], huffman=False))
    return [seed, frame(HEADERS, 4, 3, b"\xbe" * 60_000)]


@pytest.mark.parametrize("piece", [1_000, 10_000_000])
@pytest.mark.parametrize(
    "flood",
    [
        bomb(),
        [frame(HEADERS, 0, 1, b"\x82"), *[frame(CONTINUATION, 0, 1)] * 100],
        [frame(HEADERS, 0, 1, b"\x82"), *[frame(CONTINUATION, 0, 1, bytes(16_000))] * 5],
        [frame(HEADERS, 4, 1, bytes(100_000))],
        [frame(SETTINGS, 0, 0, bytes(66_000))],
        [frame(HEADERS, 4, 1, b"\x3f" + b"\xff" * 3 + b"\x0f")],
        [frame(HEADERS, 4, 2 * n + 1, b"\x82") for n in range(10_001)],
    ],
    ids=["bomb", "continuations", "long block", "large headers", "large settings", "table size", "streams"],
)
def test_limits(flood, piece, http2):
    data = PREFACE + b"".join(flood)
    replay = http2()
    replay.feed([(C, data[i : i + piece]) for i in range(0, len(data), piece)])
    assert replay.lost == "too_large"
    assert replay.observer._streams.open == {}
