"""Compressed bodies and messages, opened under a byte limit so that a bomb costs no more than the limit."""

import zlib
from collections.abc import Sequence

from latentry_serving.oip.message import FailureReason, Undecodable

_DETECT_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS  # "deflate" means the zlib format in HTTP (RFC 9110, 8.4.1.2) and in gRPC
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})


def is_compressed(encoding: str | None) -> bool:
    """Whether the value of ``Content-Encoding`` or ``grpc-encoding`` asks for decompression.

    Raises:
        Undecodable: a coding other than gzip, deflate and identity, or several.
    """
    coding = (encoding or "").strip().lower()
    if coding in _COMPRESSED:
        return True
    if coding in ("", "identity"):
        return False
    raise Undecodable(
        FailureReason.UNSUPPORTED_ENCODING, f"compression {encoding!r}; gzip, deflate and identity are read"
    )


def decompress(chunks: Sequence[bytes | memoryview], *, limit_bytes: int) -> bytes:
    """The content of one zlib or gzip stream, at most ``limit_bytes`` of it.

    Raises:
        Undecodable: longer than the limit, cut short, followed by something else, or not compressed.
    """
    inflater = zlib.decompressobj(_DETECT_ZLIB_OR_GZIP)
    pieces: list[bytes] = []
    room = limit_bytes
    try:
        for chunk in chunks:
            piece = inflater.decompress(chunk, room + 1)
            room -= len(piece)
            if room < 0:
                raise Undecodable(FailureReason.TOO_LARGE, f"more than {limit_bytes} bytes after decompression")
            if inflater.unused_data:
                raise Undecodable(FailureReason.MALFORMED, "bytes after the end of the compressed data")
            pieces.append(piece)
    except zlib.error as error:
        raise Undecodable(FailureReason.MALFORMED, f"compressed data: {error}") from error
    if not inflater.eof:
        raise Undecodable(FailureReason.TRUNCATED, "compressed data ends early")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
