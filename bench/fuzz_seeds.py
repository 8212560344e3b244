"""Conversations that the fuzzer starts from, in the form that `bench.fuzz_target` reads."""

from hpack import Encoder

FROM_CLIENT, WHOLE_FRAME = 0x8000, 0x4000
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _PADDED = 0x1, 0x4, 0x8


def _record(payload: bytes, flags: int) -> bytes:
    return (flags | len(payload)).to_bytes(2) + payload


def _client(payload: bytes) -> bytes:
    return _record(payload, FROM_CLIENT)


def _server(payload: bytes) -> bytes:
    return _record(payload, 0)


_POST = b"POST /v2/models/digits_encode/infer HTTP/1.1\r\nHost: a\r\n"
_INFER = _client(_POST + b"Content-Length: 5\r\n\r\nhello")
_OK = _server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")

HTTP1 = [
    _INFER + _OK + _INFER + _OK,
    _INFER + _INFER + _OK + _OK,
    _client(_POST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n")
    + _server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    _client(_POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    + _server(b"HTTP/1.1 100 Continue\r\n\r\n") + _client(b"ab") + _OK,
    _client(b"HEAD /v2 HTTP/1.1\r\n\r\n") + _server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") + _INFER + _OK,
    _client(b"GET /v2 HTTP/1.0\r\n\r\n") + _server(b"HTTP/1.0 204 No Content\r\n\r\n"),
    _client(b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
    + _server(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n") + _client(b"PRI *"),
    _client(_POST + b"Content-Length: 99999999999\r\n\r\nx") + _server(b"HTTP/1.1 413 Too large\r\n\r\nuntil close"),
]  # fmt: skip


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, by_client: bool = True) -> bytes:
    side = FROM_CLIENT if by_client else 0
    return _record(bytes([kind, flags, stream]) + payload, side | WHOLE_FRAME)


def _http2() -> list[bytes]:
    client, server = Encoder(), Encoder()
    request = [
        (":method", "POST"), (":path", "/inference.GRPCInferenceService/ModelInfer"), ("te", "trailers"),
        ("grpc-timeout", "1S"), ("grpc-encoding", "gzip"), ("content-type", "application/grpc"),
    ]  # fmt: skip
    message = b"\0\0\0\0\x0f\x0a\x0ddigits_encode"
    head, again = client.encode(request), client.encode(request)
    answer = server.encode([(":status", "200"), ("content-type", "application/grpc")])
    trailers = server.encode([("grpc-status", "0"), ("grpc-message", "")])
    settings = _frame(_SETTINGS, 0, 0, b"\0\1\0\0\x10\0")
    call = _frame(_HEADERS, _END_HEADERS, 1, head) + _frame(_DATA, _END_STREAM, 1, message)
    answered = _frame(_HEADERS, _END_HEADERS, 1, answer, by_client=False) + _frame(
        _DATA, 0, 1, message, by_client=False
    )
    end = _frame(_HEADERS, _END_HEADERS | _END_STREAM, 1, trailers, by_client=False)
    padded = _frame(_DATA, _PADDED | _END_STREAM, 3, b"\2" + message + b"..")
    given_up = _frame(_HEADERS, _END_HEADERS, 3, again) + padded + _frame(_RST_STREAM, 0, 3, b"\0\0\0\x08")
    in_two = _frame(_HEADERS, 0, 1, head[:5]) + _frame(_CONTINUATION, _END_HEADERS, 1, head[5:])
    no_table = _frame(_SETTINGS, 0, 0, b"\0\1\0\0\0\0", by_client=False)
    return [
        settings + call + answered + end,
        call + given_up + answered + end,
        in_two + _frame(_PING, 0, 0, b"p" * 8),
        call + answered + _frame(_RST_STREAM, 0, 1, b"\0\0\0\x02", by_client=False),
        call + _frame(_GOAWAY, 0, 0, b"\0" * 8, by_client=False) + _frame(_WINDOW_UPDATE, 0, 1, b"\0\0\1\0"),
        call + answered + no_table + settings + end,
    ]


SEEDS = {"http1": HTTP1, "http2": _http2()}
