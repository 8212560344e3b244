"""Reads a model's name from the first bytes of the first message of a gRPC inference call. Pure.

Source: gRPC over HTTP/2 ("Length-Prefixed-Message"); protobuf encoding; ``ModelInferRequest.model_name`` is field 1 in
the Open Inference Protocol's grpc_service.proto.
"""

import zlib

_PREFIX_BYTES = 5
_READ_BYTES = 1_024
_MODEL_NAME_FIELD = 1
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_PLAIN_TAG = _MODEL_NAME_FIELD << 3 | _DELIMITED
_PLAIN_BYTES = 0x7F  # a length of one byte
_MAX_VARINT_BYTES = 10
_ZLIB_WINDOWS = {b"gzip": 31, b"deflate": 15}


def plain_model_name(data: bytes, start: int, end: int) -> bytes | None:
    """The name where nearly every client puts it: first in an uncompressed message that ``data[start:end]`` begins.

    None where it is elsewhere, or not all there yet: then a `ModelNameReader` finds it.
    """
    name_at = start + _PREFIX_BYTES + 2
    if name_at > end or data[start] or data[start + _PREFIX_BYTES] != _PLAIN_TAG:
        return None
    size = data[name_at - 1]
    message_bytes = int.from_bytes(data[start + 1 : start + _PREFIX_BYTES])
    if size > _PLAIN_BYTES or name_at + size > end or size + 2 > message_bytes:
        return None
    return data[name_at : name_at + size]


class ModelNameReader:
    """Fed with a call's first bytes until it has decided. Holds at most 1 KiB and reads every byte once."""

    __slots__ = ("_encoding", "_inflater", "_left", "_message", "_position", "_prefix", "_room", "name")

    def __init__(self, encoding: bytes) -> None:
        """
        Args:
            encoding: the call's ``grpc-encoding``, empty for none.
        """
        self._encoding = encoding
        self._inflater: zlib._Decompress | None = None
        self._room = _READ_BYTES
        self._prefix = b""
        self._left = -1
        """Bytes of the message still to come; negative before the prefix is complete."""
        self._message = b""
        self._position = 0
        """Of the next field in the message."""
        self.name: bytes | None = None
        """None: the message carries no name, or none that can be read."""

    def feed(self, data: bytes, start: int, end: int) -> bool:
        """Reads ``data[start:end]``; answers whether the name is decided."""
        piece = data[start : min(end, start + self._room)]
        self._room -= len(piece)
        try:
            decided = self._read(piece)
        except (_Unreadable, zlib.error):
            return True
        return decided or not self._room

    def _read(self, piece: bytes) -> bool:
        if self._left < 0:
            piece = self._prefix + piece
            if len(piece) < _PREFIX_BYTES:
                self._prefix = piece
                return False
            self._begin(piece[0], int.from_bytes(piece[1:_PREFIX_BYTES]))
            piece = piece[_PREFIX_BYTES:]
        piece = piece[: self._left]
        self._left -= len(piece)
        whole = not self._left
        if self._inflater is not None:
            piece = self._inflater.decompress(piece, _READ_BYTES - len(self._message))
            whole = whole or self._inflater.eof
        self._message = self._message + piece if self._message else piece
        try:
            self.name = self._scan()
        except IndexError:
            return whole or len(self._message) >= _READ_BYTES
        return True

    def _begin(self, compressed: int, length: int) -> None:
        self._left = length
        if compressed:
            window = _ZLIB_WINDOWS.get(self._encoding)
            if window is None:
                raise _Unreadable
            self._inflater = zlib.decompressobj(window)

    def _scan(self) -> bytes:
        """The name's bytes; IndexError where the message ends before it."""
        message = self._message
        while True:
            tag, position = _varint(message, self._position)
            field, wire_type = tag >> 3, tag & 7
            if wire_type == _VARINT:
                _, position = _varint(message, position)
            elif wire_type == _DELIMITED:
                length, position = _varint(message, position)
                if length > _READ_BYTES:
                    raise _Unreadable
                if field == _MODEL_NAME_FIELD:
                    if position + length > len(message):
                        raise IndexError
                    return message[position : position + length]
                position += length
            elif wire_type in (_FIXED64, _FIXED32):
                position += 8 if wire_type == _FIXED64 else 4
            else:
                raise _Unreadable
            self._position = position


class _Unreadable(Exception):
    """More bytes would not help."""


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(position, position + _MAX_VARINT_BYTES):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise _Unreadable
