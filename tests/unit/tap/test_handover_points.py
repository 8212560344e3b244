"""When a connection may move, be told to go, or end: however its bytes are cut."""

import pytest
from hyperframe.frame import Frame, GoAwayFrame

from latentry_serving.tap.http1_heads import with_connection_close

C, S = "client", "server"
POST = b"POST /v2/models/digits_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGEST = 2**31 - 1


def closing(message: bytes) -> bytes:
    return message.replace(b"Content-Length", b"Connection: x, Close\r\nContent-Length")


MOVABLE = {
    "unused": [],
    "after an answer": [(C, POST), (S, OK), (C, POST), (S, OK)],
    "after all pipelined answers": [(C, POST + POST), (S, OK), (S, OK)],
    "after an interim and a final answer": [(C, POST), (S, CONTINUE), (S, OK)],
    "HTTP/1.0 that keeps alive": [
        (C, POST.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n")),
        (S, OK),
    ],
}
NOT_MOVABLE = {
    "half a head": [(C, POST[:20])],
    "half a body": [(C, POST[:-1])],
    "no answer yet": [(C, POST)],
    "half an answer": [(C, POST), (S, OK[:-1])],
    "an interim answer": [(C, POST), (S, CONTINUE)],
    "one of two pipelined answers": [(C, POST + POST), (S, OK)],
    "an answer before the request ended": [(C, POST[:-1]), (S, OK)],
    "the client asked for the end": [(C, closing(POST)), (S, OK)],
    "Triton announced the end": [(C, POST), (S, closing(OK))],
    "HTTP/1.0": [(C, POST.replace(b"1.1\r\n", b"1.0\r\n")), (S, OK)],
    "an answer to HEAD whose body Triton may yet send": [(C, b"HEAD / HTTP/1.1\r\n\r\n"), (S, OK[:-3])],
}


@pytest.mark.parametrize("name", [*MOVABLE, *NOT_MOVABLE])
def test_http1_moves_only_between_calls(name, http1, cutting_everywhere):
    script = MOVABLE.get(name, NOT_MOVABLE.get(name))
    for pieces in [script, *cutting_everywhere(script)]:
        replay = http1()
        replay.feed(pieces)
        assert replay.lost is None
        assert replay.observer.movable == (name in MOVABLE), pieces


def test_http1_does_not_move_after_the_client_ended(http1):
    replay = http1()
    replay.observer.client_gone(0.0)
    assert not replay.observer.movable


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([], False),
        ([(C, POST)], True),
        ([(C, POST), (S, CONTINUE)], True),
        ([(C, POST), (S, OK[:10])], False),
        ([(C, POST), (S, OK)], False),
        ([(C, POST + POST)], False),
        ([(C, POST + POST), (S, OK)], True),
        ([(C, closing(POST))], False),
    ],
)
def test_only_the_answer_to_the_last_request_can_be_the_last(script, expected, http1):
    replay = http1()
    replay.feed(script)
    assert replay.observer.answer_is_next == expected
    assert replay.observer.goodbye(final=True) == b""


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"503 ", b"204 "])
def test_an_answer_says_that_it_is_the_last(status):
    rest = b"A: b\r\n\r\nbody"
    line = b"HTTP/1.1 " + status + b"\r\n"
    assert with_connection_close(line + rest) == line + b"Connection: close\r\n" + rest


@pytest.mark.parametrize(
    "data",
    [
        CONTINUE,
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n",
        OK[:30],
        OK[1:],
        b"",
    ],
)
def test_what_is_no_whole_final_head_without_a_word_on_it_stays_as_it_is(data):
    assert with_connection_close(data) is None


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


HELLO = [
    (C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)),
    (S, frame(4, 0, 0, b"\0\4\0\1\0\0") + frame(4, 1, 0)),
]
GOAWAY_5 = frame(7, 0, 0, (5).to_bytes(4) + bytes(4))
FRAMES = [frame(0, 0, 1, b"answer"), frame(0, 8, 1, b"\2data\0\0"), frame(8, 0, 0, bytes(4)), frame(6, 0, 0, bytes(8))]
BLOCK = frame(1, 0, 1, b"\x88") + frame(9, 4, 1)


def said(word: bytes) -> GoAwayFrame:
    parsed, length = Frame.parse_frame_header(memoryview(word[:9]))
    parsed.parse_body(memoryview(word[9 : 9 + length]))
    assert isinstance(parsed, GoAwayFrame)
    assert len(word) == 9 + length
    assert parsed.error_code == 0
    return parsed


def test_http2_clients_are_told_between_two_frames_only(http2):
    replay = http2()
    boundaries, position = {sum(map(len, (HELLO[1][1][:15],)))}, len(HELLO[1][1])
    boundaries.add(position)
    for piece in [*FRAMES, BLOCK]:
        position += len(piece)
        boundaries.add(position)
    replay.feed(HELLO[:1])
    stream = HELLO[1][1] + b"".join(FRAMES) + BLOCK
    told = set()
    for index in range(len(stream)):
        assert replay.lost is None
        replay.feed([(S, stream[index : index + 1])])
        if replay.observer.goodbye(final=False):
            told.add(index + 1)
    assert told == boundaries
    assert said(replay.observer.goodbye(final=False)).last_stream_id == LARGEST


def test_nothing_is_said_before_triton_s_own_first_word(http2):
    replay = http2()
    replay.feed(HELLO[:1])
    assert replay.observer.goodbye(final=False) == b""
    replay.feed([(S, frame(4, 1, 0))])
    assert replay.observer.goodbye(final=True) == b""


def test_the_last_word_names_the_latest_call_and_never_more_than_triton_said(http2):
    replay = http2()
    replay.feed(HELLO)
    assert said(replay.observer.goodbye(final=True)).last_stream_id == 0
    replay.feed([(C, frame(1, 5, 7, b"\x82")), (C, frame(1, 5, 9, b"\x82"))])
    assert said(replay.observer.goodbye(final=True)).last_stream_id == 9
    replay.feed([(S, GOAWAY_5)])
    assert replay.observer.goodbye(final=False) == b""
    assert said(replay.observer.goodbye(final=True)).last_stream_id == 5
    assert not replay.observer.movable
