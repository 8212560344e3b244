"""Request and response heads of HTTP/1.1, parsed by llhttp. Pure.

Only whole heads are given to the parser; where bodies begin and end is `http1_framing`'s work, because llhttp as bound
by httptools cannot be told that an answer belongs to a HEAD request, and copies every body it reads.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, TypeVar

import httptools

from latentry_serving.contract.metrics import OpaqueReason
from latentry_serving.tap.observation import SightLost, malformed

CHUNKED = -1
"""Body length of a message in chunks."""
UNTIL_CLOSE = -2
"""Body length of an answer that ends with the connection."""

_CACHED_HEAD_BYTES = 1024
_HTTP2_PREFACE = b"PRI * HTTP/2"

_Parser = TypeVar("_Parser", httptools.HttpRequestParser, httptools.HttpResponseParser)


class RequestHead(NamedTuple):
    """What matters of a request's head. ``body``: bytes, or `CHUNKED`."""

    method: bytes
    target: bytes
    body: int


class ResponseHead(NamedTuple):
    """What matters of an answer's head. ``body``: bytes, `CHUNKED` or `UNTIL_CLOSE`, before method and status rule."""

    status: int
    body: int


class _Fields:
    """Collects from llhttp's callbacks what decides about framing."""

    def __init__(self) -> None:
        self.target = b""
        self.length: int | None = None
        self.coding = b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name == b"transfer-encoding":
            self.coding = value.rpartition(b",")[2].strip().lower()


def parse_request_head(head: bytes) -> RequestHead:
    """Reads a request head, from its first byte to the empty line.

    Raises:
        SightLost: it is no HTTP/1 request.
    """
    return _request_cached(head) if len(head) <= _CACHED_HEAD_BYTES else _request(head)


def parse_response_head(head: bytes) -> ResponseHead:
    """Reads a response head, from its first byte to the empty line.

    Raises:
        SightLost: it is no HTTP/1 response.
    """
    return _response_cached(head) if len(head) <= _CACHED_HEAD_BYTES else _response(head)


def _request(head: bytes) -> RequestHead:
    if head.startswith(_HTTP2_PREFACE):
        raise SightLost(OpaqueReason.UNKNOWN_PROTOCOL, "HTTP/2 on the HTTP/1.1 port")
    parser, fields = _parse(httptools.HttpRequestParser, head)
    return RequestHead(
        parser.get_method(), fields.target, CHUNKED if fields.coding == b"chunked" else fields.length or 0
    )


def _response(head: bytes) -> ResponseHead:
    parser, fields = _parse(httptools.HttpResponseParser, head)
    if fields.coding:
        body = CHUNKED if fields.coding == b"chunked" else UNTIL_CLOSE
    else:
        body = UNTIL_CLOSE if fields.length is None else fields.length
    return ResponseHead(parser.get_status_code(), body)


def _parse(make: Callable[[_Fields], _Parser], head: bytes) -> tuple[_Parser, _Fields]:
    fields = _Fields()
    parser = make(fields)
    try:
        with suppress(httptools.HttpParserUpgrade):  # only a wish so far: the server's 101 decides
            parser.feed_data(head)
    except httptools.HttpParserError as error:
        raise malformed(f"not an HTTP/1 head: {error}") from error
    return parser, fields


# Clients repeat their heads: the same bytes always mean the same.
_request_cached = lru_cache(maxsize=256)(_request)
_response_cached = lru_cache(maxsize=256)(_response)
