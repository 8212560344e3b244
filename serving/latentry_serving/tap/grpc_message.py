"""Reads a model's name from the first bytes of the first message of a gRPC inference call. Pure.

Source: gRPC over HTTP/2 ("Length-Prefixed-Message"); protobuf encoding; ``ModelInferRequest.model_name`` is field 1 in
the Open Inference Protocol's grpc_service.proto.
"""

import zlib

_PREFIX_BYTES = 5
_READ_BYTES = 1_024
_MODEL_NAME_FIELD = 1
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_ZLIB_WINDOWS = {b"gzip": 31, b"deflate": 15}


class ModelNameReader:
    """Fed with a call's first bytes until it has decided. Holds at most 1 KiB."""

    __slots__ = ("_encoding", "_held", "name")

    def __init__(self, encoding: bytes) -> None:
        """
        Args:
            encoding: the call's ``grpc-encoding``, empty for none.
        """
        self._encoding = encoding
        self._held = bytearray()
        self.name: bytes | None = None
        """None: the message carries no name, or none that can be read."""

    def feed(self, data: bytes, start: int, end: int) -> bool:
        """Reads ``data[start:end]``; answers whether the name is decided."""
        room = _READ_BYTES - len(self._held)
        piece = data[start : min(end, start + room)]
        if self._held:
            self._held += piece
            piece = bytes(self._held)
        try:
            self.name = _model_name(piece, self._encoding)
        except (_Unreadable, zlib.error):
            return True
        except _Short:
            if len(piece) >= _READ_BYTES:
                return True
            if not self._held:
                self._held += piece
            return False
        return True


class _Short(Exception):
    """More bytes are needed."""


class _Unreadable(Exception):
    """More bytes would not help."""


def _model_name(data: bytes, encoding: bytes) -> bytes | None:
    if len(data) < _PREFIX_BYTES:
        raise _Short
    length = int.from_bytes(data[1:_PREFIX_BYTES])
    message = data[_PREFIX_BYTES : _PREFIX_BYTES + length]
    whole = len(message) == length
    if data[0]:
        window = _ZLIB_WINDOWS.get(encoding)
        if window is None:
            raise _Unreadable
        inflater = zlib.decompressobj(window)
        message = inflater.decompress(message, _READ_BYTES)
        whole = whole and inflater.eof
    try:
        return _scan(message)
    except IndexError:
        if whole:
            return None
        raise _Short from None


def _scan(message: bytes) -> bytes:
    """The name's bytes; IndexError where the message ends before it."""
    position = 0
    while True:
        tag, position = _varint(message, position)
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


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(position, position + _MAX_VARINT_BYTES):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise _Unreadable
