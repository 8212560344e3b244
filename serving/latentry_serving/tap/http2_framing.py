"""Finds frames in one direction of an HTTP/2 connection, however its bytes are cut. Pure; copies no DATA.

Source: RFC 9113, sections 3.4 (preface), 4 (frames) and 6 (frame definitions).
"""

from struct import Struct
from typing import Protocol as Interface

from latentry_serving.contract.metrics import OpaqueReason
from latentry_serving.tap.observation import SightLost, malformed, too_large

CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_HEADER_BLOCK_BYTES = 65_536
MAX_CONTINUATIONS = 64

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 5, 7, 9
_READ_WHOLE = frozenset({_HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _CONTINUATION})
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADERS_FLAGS = _END_HEADERS | _PADDED | _PRIORITY
_FRAME_HEADER = Struct(">BHBBL")  # length: high byte and low two, type, flags, stream
_FRAME_HEADER_BYTES = 9
_SETTING = Struct(">HL")
_HEADER_TABLE_SIZE = 1
_STREAM_BITS = 0x7FFF_FFFF
_GOAWAY_FRAME = Struct(">BHBBLLL")
LARGEST_STREAM = _STREAM_BITS


def goaway(last_stream: int) -> bytes:
    """A GOAWAY frame with NO_ERROR: streams up to ``last_stream`` are answered, others never were begun."""
    return _GOAWAY_FRAME.pack(0, 8, _GOAWAY, 0, 0, last_stream, 0)


class FrameHandler(Interface):
    """Told of what matters in one direction."""

    def headers_received(self, stream: int, block: bytes, *, ends: bool, begun_s: float, now_s: float) -> None:
        """A whole header block; ``begun_s``: when its first byte came; ``ends``: it is the sender's last."""

    def data_received(self, stream: int, data: bytes, start: int, end: int, now_s: float) -> None:
        """``data[start:end]`` is payload of a stream, without padding."""

    def stream_ended(self, stream: int, now_s: float) -> None:
        """The sender's last DATA frame is complete."""

    def stream_reset(self, stream: int, now_s: float) -> None:
        """The sender gave a stream up."""

    def table_size_allowed(self, size: int) -> None:
        """The sender allows its peer a header table of up to ``size`` bytes."""

    def going_away(self, last_stream: int, now_s: float) -> None:
        """The sender will not answer streams above ``last_stream``."""


class FrameReader:
    """A state machine over bytes. Holds at most one control frame and one header block."""

    def __init__(self, handler: FrameHandler, *, preface: bytes = b"") -> None:
        self._handler = handler
        self._preface = preface
        self._partial = bytearray()
        self._needed = _FRAME_HEADER_BYTES
        self._begun_s = 0.0
        # The DATA frame being passed: payload and padding still to come.
        self._data_left = 0
        self._padding_left = 0
        self._data_stream = 0
        self._data_ends = False
        # The header block being collected over CONTINUATION frames.
        self._block: list[bytes] | None = None
        self._block_bytes = 0
        self._block_stream = 0
        self._block_ends = False
        self._block_begun_s = 0.0
        self.greeted = False
        """The sender's first SETTINGS have passed: RFC 9113, 3.4."""

    @property
    def between_frames(self) -> bool:
        """No frame has begun that has not ended."""
        return not (self._partial or self._data_left or self._padding_left or self._block)

    def feed(self, data: bytes, now_s: float) -> None:
        """Reads the next bytes.

        Raises:
            SightLost: they cannot be followed.
        """
        position, size = 0, len(data)
        if self._preface:
            position = self._read_preface(data)
        while position < size:
            if self._data_left or self._padding_left:
                position = self._pass(data, position, now_s)
            elif self._partial or size - position < _FRAME_HEADER_BYTES:
                position = self._hold(data, position, now_s)
            else:
                self._begun_s = now_s
                position = self._whole_frame(data, position, now_s) or self._frame(data, position, now_s)

    def _whole_frame(self, data: bytes, position: int, now_s: float) -> int:
        """Reads a frame that lies in ``data`` from first to last byte and is of the plain sort nearly all are.

        Answers where reading goes on, or 0, nothing changed, for every other frame.
        """
        high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(data, position)
        start = position + _FRAME_HEADER_BYTES
        end: int = start + (high << 16 | low)
        if end > len(data) or self._block is not None:
            return 0
        if kind == _DATA:
            if flags & _PADDED:
                return 0
            stream &= _STREAM_BITS
            if end > start:
                self._handler.data_received(stream, data, start, end, now_s)
            if flags & _END_STREAM:
                self._handler.stream_ended(stream, now_s)
            return end
        if kind == _HEADERS:
            stream &= _STREAM_BITS
            plain = flags & _HEADERS_FLAGS == _END_HEADERS and stream and end - start <= MAX_HEADER_BLOCK_BYTES
            if not plain:
                return 0
            ends = bool(flags & _END_STREAM)
            self._handler.headers_received(stream, data[start:end], ends=ends, begun_s=now_s, now_s=now_s)
            return end
        return 0 if kind in _READ_WHOLE else end

    def _read_preface(self, data: bytes) -> int:
        start = data[: len(self._preface)]
        if not self._preface.startswith(start):
            raise SightLost(OpaqueReason.UNKNOWN_PROTOCOL, "not HTTP/2")
        self._preface = self._preface[len(start) :]
        return len(start)

    def _hold(self, data: bytes, position: int, now_s: float) -> int:
        """Keeps the piece of a frame until the rest comes."""
        held = self._partial
        if not held:
            self._begun_s = now_s
        taken = data[position : position + self._needed - len(held)]
        held += taken
        if len(held) == self._needed:
            whole = bytes(held)
            held.clear()
            self._needed = _FRAME_HEADER_BYTES
            self._frame(whole, 0, now_s)
        return position + len(taken)

    def _frame(self, data: bytes, position: int, now_s: float) -> int:
        """Reads the frame whose header is at ``position``; answers where reading goes on."""
        high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(data, position)
        length: int = high << 16 | low
        start = position + _FRAME_HEADER_BYTES
        if self._block is not None and (kind != _CONTINUATION or stream & _STREAM_BITS != self._block_stream):
            raise malformed("a header block was interrupted")
        if kind == _DATA:
            return self._begin_data(data, start, length, flags, stream & _STREAM_BITS, now_s)
        if kind not in _READ_WHOLE:
            self._begin_pass(0, length)
            return start
        if length > MAX_HEADER_BLOCK_BYTES:
            raise too_large(f"control frame of more than {MAX_HEADER_BLOCK_BYTES} bytes")
        end = start + length
        if end > len(data):
            self._needed = end - position
            self._partial += data[position:]
            return len(data)
        self._control(kind, flags, stream & _STREAM_BITS, data[start:end], now_s)
        return end

    def _begin_data(self, data: bytes, start: int, length: int, flags: int, stream: int, now_s: float) -> int:
        padding = 0
        if flags & _PADDED:
            if start == len(data):  # the pad length is still to come
                self._needed = _FRAME_HEADER_BYTES + 1
                self._partial += data[start - _FRAME_HEADER_BYTES :]
                return start
            padding, length, start = data[start], length - 1, start + 1
            if padding > length:
                raise malformed("padding longer than its frame")
        self._data_stream, self._data_ends = stream, bool(flags & _END_STREAM)
        self._begin_pass(length - padding, padding)
        if not length:
            self._end_data(now_s)
        return start

    def _begin_pass(self, payload: int, padding: int) -> None:
        self._data_left, self._padding_left = payload, padding

    def _pass(self, data: bytes, position: int, now_s: float) -> int:
        """Lets payload and padding go by."""
        if self._data_left:
            end = min(len(data), position + self._data_left)
            self._data_left -= end - position
            self._handler.data_received(self._data_stream, data, position, end, now_s)
        else:
            end = min(len(data), position + self._padding_left)
            self._padding_left -= end - position
        if not self._data_left and not self._padding_left:
            self._end_data(now_s)
        return end

    def _end_data(self, now_s: float) -> None:
        if self._data_ends:
            self._data_ends = False
            self._handler.stream_ended(self._data_stream, now_s)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes, now_s: float) -> None:
        if kind == _HEADERS:
            self._begin_block(flags, stream, payload, now_s)
        elif kind == _CONTINUATION:
            self._continue_block(flags, payload, now_s)
        elif kind == _RST_STREAM:
            self._handler.stream_reset(stream, now_s)
        elif kind == _SETTINGS:
            self._settings(flags, payload)
        elif kind == _GOAWAY:
            if len(payload) < 8:
                raise malformed("GOAWAY frame cut short")
            self._handler.going_away(int.from_bytes(payload[:4]) & _STREAM_BITS, now_s)
        else:  # its header block belongs to a stream nobody asked for
            raise SightLost(OpaqueReason.UNKNOWN_PROTOCOL, "server push")

    def _begin_block(self, flags: int, stream: int, payload: bytes, now_s: float) -> None:
        start = padding = 0
        if flags & _PADDED:
            padding, start = payload[0] if payload else 1, 1
        if flags & _PRIORITY:
            start += 5
        if stream == 0 or start + padding > len(payload):
            raise malformed("HEADERS frame without a stream, or shorter than its flags say")
        block = payload[start : len(payload) - padding]
        if flags & _END_HEADERS:
            ends = bool(flags & _END_STREAM)
            self._handler.headers_received(stream, block, ends=ends, begun_s=self._begun_s, now_s=now_s)
        else:
            self._block, self._block_bytes = [block], len(block)
            self._block_stream, self._block_ends = stream, bool(flags & _END_STREAM)
            self._block_begun_s = self._begun_s

    def _continue_block(self, flags: int, payload: bytes, now_s: float) -> None:
        if self._block is None:
            raise malformed("CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > MAX_HEADER_BLOCK_BYTES or len(self._block) > MAX_CONTINUATIONS:
            raise too_large(f"header block of more than {MAX_HEADER_BLOCK_BYTES} bytes or {MAX_CONTINUATIONS} frames")
        if flags & _END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._handler.headers_received(
                self._block_stream, block, ends=self._block_ends, begun_s=self._block_begun_s, now_s=now_s
            )

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        self.greeted = True
        if len(payload) % _SETTING.size:
            raise malformed("SETTINGS frame cut short")
        for identifier, value in _SETTING.iter_unpack(payload):
            if identifier == _HEADER_TABLE_SIZE:
                self._handler.table_size_allowed(value)
