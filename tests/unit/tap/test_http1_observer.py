"""HTTP/1.1 read along. Covered: keep-alive, pipelining, chunks both ways, trailers, interim answers, HEAD (also with
Triton's stray body), 204 and 304, bodies until close, upgrades, answers before the request ended, ends and breaks of
either side, limits. Every script gives the same events however its bytes are cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

C, S = "client", "server"
INFER = b"POST /v2/models/digits_encode/infer HTTP/1.1\r\nHost: a\r\n"
POST = INFER + b"Content-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
STARTED, DONE = ("started", "encode", "unary"), ("finished", "encode", "ok", 5, 3)
MANAGED = ("started", "management", "unary")

SCRIPTS = {
    "keep-alive": ([(C, POST), (S, OK), (C, POST), (S, OK)], [STARTED, DONE, STARTED, DONE]),
    "pipelined": ([(C, POST + POST), (S, OK + OK)], [STARTED, STARTED, DONE, DONE]),
    "other model": (
        [(C, b"POST /v2/models/cats/versions/2/infer HTTP/1.1\r\n\r\n"), (S, OK)],
        [("started", "other", "unary"), ("finished", "other", "ok", 0, 3)],
    ),
    "generated stream": (
        [
            (C, b"POST /v2/models/digits_decode/generate_stream HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            (S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n"),
        ],
        [("started", "decode", "stream"), ("finished", "decode", "ok", 0, 4)],
    ),
    "chunks with extensions and trailers, both ways": (
        [
            (
                C,
                INFER + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-A: 1\r\nX: 2\r\n\r\n",
            ),
            (S, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nyes\r\n0\r\nX: 1\r\n\r\n"),
            (C, POST),
            (S, OK),
        ],
        [STARTED, DONE, STARTED, DONE],
    ),
    "expect continue": (
        [
            (C, INFER + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
            (S, b"HTTP/1.1 100 Continue\r\n\r\n"),
            (C, b"hello"),
            (S, b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK),
        ],
        [STARTED, DONE],
    ),
    "HEAD": (
        [(C, b"HEAD /v2 HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), (C, POST), (S, OK)],
        [MANAGED, ("finished", "management", "ok", 0, 0), STARTED, DONE],
    ),
    "HEAD answered with a body": (
        [
            (C, b"HEAD /v2 HTTP/1.1\r\n\r\n"),
            (S, b"HTTP/1.1 405 N\r\nContent-Length: 3\r\n\r\n{1}"),
            (C, POST),
            (S, OK),
        ],
        [MANAGED, ("finished", "management", "client_error", 0, 0), STARTED, DONE],
    ),
    "no content": (
        [
            (C, b"GET /v2 HTTP/1.1\r\n\r\nGET /v2 HTTP/1.1\r\n\r\n"),
            (S, b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        ],
        [MANAGED, MANAGED, *[("finished", "management", "ok", 0, 0)] * 2],
    ),
    "failures": (
        [
            (C, POST + POST),
            (S, b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        ],
        [STARTED, STARTED, ("finished", "encode", "client_error", 5, 0), ("finished", "encode", "server_error", 5, 0)],
    ),
    "answer before the request ended": (
        [(C, POST[:-4]), (S, OK), (C, POST[-4:]), (C, POST), (S, OK)],
        [STARTED, DONE, STARTED, DONE],
    ),
    "empty lines between requests": ([(C, b"\r\n" + POST), (S, OK), (C, b"\r\n" + POST), (S, OK)], [STARTED, DONE] * 2),
    "unused upgrade offer": (
        [(C, b"GET /v2 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), (S, OK), (C, POST), (S, OK)],
        [MANAGED, ("finished", "management", "ok", 0, 3), STARTED, DONE],
    ),
    "upgrade": (
        [(C, b"GET /v2 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), (S, SWITCH)],
        [MANAGED, ("finished", "management", None, 0, 0), ("lost", "upgrade")],
    ),
    "HTTP/2 preface": ([(C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], [("lost", "unknown_protocol")]),
    "TLS": ([(C, b"\x16\x03\x01\x02\x00")], [("lost", "unknown_protocol")]),
    "bare line feeds, which Triton refuses": ([(C, b"GET /v2 HTTP/1.1\n\r\n\r\n")], [("lost", "malformed")]),
    "chunk without size": ([(C, INFER + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")], [STARTED]),
    "answer nobody asked for": ([(S, OK)], [("lost", "malformed")]),
    "garbage for an answer": ([(C, POST), (S, b"nope")], [STARTED]),
}
SCRIPTS |= {
    name: (script, [*told, ("finished", "encode", None, told_bytes, 0), ("lost", "malformed")])
    for name, told_bytes in (("chunk without size", 0), ("garbage for an answer", 5))
    for script, told in [SCRIPTS[name]]
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_cut_at_every_position(name, http1, cutting_everywhere):
    script, expected = SCRIPTS[name]
    for pieces in (script, *cutting_everywhere(script)):
        replay = http1()
        replay.feed(pieces)
        assert replay.told == expected


@given(names=st.lists(st.sampled_from(["keep-alive", "pipelined", "failures", "expect continue"]), max_size=4),
       data=st.data())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_sequences_cut_at_random(names, data, http1, cutting):
    script = [piece for name in names for piece in SCRIPTS[name][0]]
    size = sum(len(part) for _, part in script)
    positions = data.draw(st.lists(st.integers(1, max(size, 1)), max_size=30))
    replay = http1()
    replay.feed(cutting(script, positions))
    assert replay.told == [event for name in names for event in SCRIPTS[name][1]]
    assert replay.observer.idle


def test_times_are_of_first_and_last_bytes(http1):
    replay = http1()
    observer = replay.observer
    observer.client_sent(POST[:10], 1.0)
    observer.client_sent(POST[10:], 2.0)
    observer.server_sent(b"HTTP/1.1 100 Continue\r\n\r\n", 3.0)
    observer.server_sent(OK[:5], 4.0)
    observer.server_sent(OK[5:-1], 5.0)
    observer.server_sent(OK[-1:], 6.0)
    call = replay.recorder.calls[0]
    assert (call.started_s, call.first_response_s, call.last_response_s) == (1.0, 4.0, 6.0)


def until_close(http1):
    replay = http1()
    replay.feed([(C, POST), (S, b"HTTP/1.1 200 OK\r\n\r\nall of it")])
    return replay


def test_a_body_until_close_ends_in_order(http1):
    replay = until_close(http1)
    replay.observer.server_gone(1.0, in_order=True)
    assert replay.told == [STARTED, ("finished", "encode", "ok", 5, 9)]


def test_a_body_until_close_broken_off_is_a_reset(http1):
    replay = until_close(http1)
    replay.observer.server_gone(1.0, in_order=False)
    assert replay.told == [STARTED, ("finished", "encode", "reset", 5, 9)]


@pytest.mark.parametrize(("first", "outcome"), [("client", "cancelled"), ("server", "reset"), (None, "reset")])
def test_whoever_goes_first_decides(first, outcome, http1):
    replay = http1()
    replay.feed([(C, POST + POST), (S, OK[:-1])])
    if first == "client":
        replay.observer.client_gone(1.0)
        assert len(replay.told) == 2, "the client may only have ended its side"
    if first == "server":
        replay.observer.server_gone(1.0, in_order=True)
    replay.observer.closed(2.0)
    assert replay.told[2:] == [("finished", "encode", outcome, 5, 2), ("finished", "encode", outcome, 5, 0)]


def test_an_answered_call_keeps_its_outcome_when_the_client_leaves_before_sending_all(http1):
    replay = http1()
    replay.feed([(C, POST[:-1]), (S, OK)])
    assert not replay.observer.idle
    replay.observer.client_gone(1.0)
    replay.observer.closed(2.0)
    assert replay.told == [STARTED, ("finished", "encode", "ok", 4, 3)]


def test_an_answer_to_a_client_that_has_gone_reaches_nobody(http1):
    replay = http1()
    replay.feed([(C, POST)])
    replay.observer.client_gone(1.0)
    replay.feed([(S, OK)])
    assert replay.told == [STARTED, ("finished", "encode", "cancelled", 5, 3)]


@pytest.mark.parametrize("name", ["head", "chunk line", "trailers", "pipeline"])
@pytest.mark.parametrize("piece", [1_000, 1_000_000])
def test_limits(name, piece, http1):
    chunked = INFER + b"Transfer-Encoding: chunked\r\n\r\n"
    flood = {
        "head": b"GET /v2 HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000,
        "chunk line": chunked + b"1;" + b"x" * 5_000,
        "trailers": chunked + b"0\r\n" + b"X-A: b\r\n" * 20_000,
        "pipeline": b"GET /v2 HTTP/1.1\r\n\r\n" * 1_001,
    }[name]
    replay = http1()
    replay.feed([(C, flood[i : i + piece]) for i in range(0, len(flood), piece)])
    assert replay.lost == "too_large"
    assert [t for t in replay.told if t[0] == "started"] == [
        ("started", t[1], "unary") for t in replay.told if t[0] == "finished"
    ], "every call in flight is let go of"


def test_a_body_of_four_gigabytes_is_only_counted(http1):
    replay = http1()
    replay.feed([(C, INFER + b"Content-Length: 5000000000\r\n\r\n")])
    piece = bytes(10_000_000)
    for _ in range(500):
        replay.observer.client_sent(piece, 0.0)
    replay.feed([(S, OK)])
    assert replay.told[-1] == ("finished", "encode", "ok", 5_000_000_000, 3)
