"""Request and response heads of HTTP/1.1, parsed by llhttp. Pure.

Only whole heads are given to the parser; where bodies begin and end is `http1_framing`'s work, because llhttp as bound
by httptools cannot be told that an answer belongs to a HEAD request, and copies every body it reads.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import httptools

from latentry_serving.contract.metrics import OpaqueReason
from latentry_serving.sli.trace import TraceContext, parse_trace_context
from latentry_serving.tap.observation import SightLost, malformed

CHUNKED = -1
"""Body length of a message in chunks."""
UNTIL_CLOSE = -2
"""Body length of an answer that ends with the connection."""

REMEMBERED_HEAD_BYTES = 1_024
_REMEMBERED_HEADS = 256
_HTTP2_PREFACE = b"PRI * HTTP/2"
_FINAL_STATUS_LINE = re.compile(rb"HTTP/1\.1 [2-5][0-9][0-9][^\r\n]*\r\n")

_Parser = TypeVar("_Parser", httptools.HttpRequestParser, httptools.HttpResponseParser)


class RequestHead(NamedTuple):
    """What matters of a request's head. ``body_bytes``: a length, or `CHUNKED`."""

    method: bytes
    path: bytes
    body_bytes: int
    host: bytes
    trace: TraceContext | None
    content_type: bytes
    content_encoding: bytes
    header_length: bytes
    grpc_encoding: bytes = b""
    keeps: bool = True
    """The connection may carry another request: RFC 9112, 9.3."""


class ResponseHead(NamedTuple):
    """What matters of an answer's head. ``body_bytes``: a length, `CHUNKED` or `UNTIL_CLOSE`, before method and status
    rule."""

    status: int
    body_bytes: int
    content_type: bytes
    content_encoding: bytes
    header_length: bytes
    grpc_encoding: bytes = b""
    keeps: bool = True
    """As of requests."""


_NOTED = frozenset(
    {
        b"connection",
        b"host",
        b"traceparent",
        b"tracestate",
        b"content-type",
        b"content-encoding",
        b"inference-header-content-length",
    }
)


class _Fields:
    """Collects from llhttp's callbacks what decides about framing, and what traces and decoding ask for."""

    def __init__(self) -> None:
        self.target = b""
        self.length: int | None = None
        self.coding = b""
        self._noted: dict[bytes, bytes] = {}

    def noted(self, name: bytes) -> bytes:
        """A field's value, empty when absent."""
        return self._noted.get(name, b"")

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name == b"transfer-encoding":
            self.coding = value.rpartition(b",")[2].strip().lower()
        elif name in _NOTED:
            # A field given twice counts as one list: RFC 9110, 5.3.
            self._noted[name] = value if name not in self._noted else self._noted[name] + b"," + value


_Head = TypeVar("_Head", RequestHead, ResponseHead)


class _Memory(Generic[_Head]):
    """Clients and servers repeat their heads, and the same bytes always mean the same. Bounded."""

    def __init__(self, parse: Callable[[bytes], _Head]) -> None:
        self._parse: Callable[[bytes], _Head] = parse
        self._heads: dict[bytes, _Head] = {}
        self.known: Callable[[bytes], _Head | None] = self._heads.get
        """What a head means that was parsed before; None for others."""

    def parsed(self, head: bytes) -> _Head:
        found = self._heads.get(head)
        return found if found is not None else self._remembered(head, self._parse(head))

    def _remembered(self, head: bytes, meaning: _Head) -> _Head:
        # A head with a trace is never seen again.
        if len(head) <= REMEMBERED_HEAD_BYTES and not (isinstance(meaning, RequestHead) and meaning.trace):
            if len(self._heads) >= _REMEMBERED_HEADS:
                self._heads.clear()
            self._heads[head] = meaning
        return meaning


def _request(head: bytes) -> RequestHead:
    if head.startswith(_HTTP2_PREFACE):
        raise SightLost(OpaqueReason.UNKNOWN_PROTOCOL, "HTTP/2 on the HTTP/1.1 port")
    parser, fields = _parse(httptools.HttpRequestParser, head)
    return RequestHead(
        method=parser.get_method(),
        path=fields.target,
        body_bytes=CHUNKED if fields.coding == b"chunked" else fields.length or 0,
        host=fields.noted(b"host"),
        trace=parse_trace_context(fields.noted(b"traceparent"), fields.noted(b"tracestate")),
        content_type=fields.noted(b"content-type"),
        content_encoding=fields.noted(b"content-encoding"),
        header_length=fields.noted(b"inference-header-content-length"),
        keeps=_keeps(parser, fields),
    )


def _response(head: bytes) -> ResponseHead:
    parser, fields = _parse(httptools.HttpResponseParser, head)
    if fields.coding:
        body = CHUNKED if fields.coding == b"chunked" else UNTIL_CLOSE
    else:
        body = UNTIL_CLOSE if fields.length is None else fields.length
    return ResponseHead(
        status=parser.get_status_code(),
        body_bytes=body,
        content_type=fields.noted(b"content-type"),
        content_encoding=fields.noted(b"content-encoding"),
        header_length=fields.noted(b"inference-header-content-length"),
        keeps=_keeps(parser, fields),
    )


def _keeps(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, fields: _Fields) -> bool:
    options = {option.strip().lower() for option in fields.noted(b"connection").split(b",")}
    return b"keep-alive" in options if parser.get_http_version() == "1.0" else b"close" not in options


def with_connection_close(data: bytes) -> bytes | None:
    """The same bytes with ``Connection: close`` as first header of the final answer that begins with them; None where
    none does, its head is not whole, or it has a word on the connection itself.

    Source: RFC 9112, section 9.6.
    """
    end = data.find(b"\r\n\r\n")
    status = _FINAL_STATUS_LINE.match(data)
    if end < 0 or status is None or b"\r\nconnection:" in data[:end].lower():
        return None
    return data[: status.end()] + b"Connection: close\r\n" + data[status.end() :]


def _parse(make: Callable[[_Fields], _Parser], head: bytes) -> tuple[_Parser, _Fields]:
    fields = _Fields()
    parser = make(fields)
    try:
        with suppress(httptools.HttpParserUpgrade):  # only a wish so far: the server's 101 decides
            parser.feed_data(head)
    except httptools.HttpParserError as error:
        raise malformed(f"not an HTTP/1 head: {error}") from error
    return parser, fields


_requests: _Memory[RequestHead] = _Memory(_request)
_responses: _Memory[ResponseHead] = _Memory(_response)

parse_request_head = _requests.parsed
"""Reads a request head, from its first byte to the empty line. Raises `SightLost` when it is no HTTP/1 request."""
parse_response_head = _responses.parsed
"""Reads a response head, from its first byte to the empty line. Raises `SightLost` when it is no HTTP/1 response."""
known_request_head = _requests.known
known_response_head = _responses.known
