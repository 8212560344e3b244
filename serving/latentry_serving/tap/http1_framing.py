"""Finds messages in one direction of an HTTP/1.1 connection, however its bytes are cut. Pure; copies no body.

Source: RFC 9112, sections 6 (message body) and 7.1 (chunked coding).
"""

import re
from collections.abc import Callable
from typing import Protocol as Interface

from latentry_serving.tap.http1_heads import CHUNKED, REMEMBERED_HEAD_BYTES, UNTIL_CLOSE
from latentry_serving.tap.observation import malformed, too_large

MAX_HEAD_BYTES = 65_536
MAX_CHUNK_LINE_BYTES = 4_096
_HEAD_END = b"\r\n\r\n"  # Triton hangs up on bare line feeds
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)


class MessageHandler(Interface):
    """Told of every message, piece by piece."""

    def message_started(self, first_byte: int, now_s: float) -> int:
        """A message's first byte, or that of bytes that belong to none: answers how many of those to pass over."""

    def head_complete(self, head: bytes) -> int:
        """The whole head; answers the body's length in bytes, `CHUNKED` or `UNTIL_CLOSE`."""

    def body_received(self, data: bytes, start: int, end: int) -> None:
        """``data[start:end]`` is body, without chunk framing."""

    def message_complete(self, now_s: float) -> None:
        """A message's last byte."""

    def whole_message(self, data: bytes, body_at: int, now_s: float) -> bool:
        """Takes ``data`` when that is one message, all of it, with a head that was read before.

        Answers False, nothing changed, where anything speaks against that: then the other methods hear of it piece by
        piece. Nearly every call comes so, and costs a fraction.
        """


class MessageFramer:
    """A state machine over bytes. Holds at most one head or one line."""

    def __init__(self, handler: MessageHandler) -> None:
        self._handler = handler
        self._step: Callable[[bytes, int, float], int] = self._between
        self._partial = bytearray()
        self._left = 0
        self._trailer_bytes = 0
        self.between_messages = True
        """No message has begun that has not ended."""

    def feed(self, data: bytes, now_s: float) -> None:
        """Reads the next bytes.

        Raises:
            SightLost: they cannot be followed.
        """
        if self.between_messages:
            found = data.find(_HEAD_END, 0, REMEMBERED_HEAD_BYTES)
            if found > 0 and self._handler.whole_message(data, found + len(_HEAD_END), now_s):
                return
        position, size = 0, len(data)
        while position < size:
            position = self._step(data, position, now_s)

    def end(self, now_s: float) -> None:
        """The sender ended its side in order: completes a body that lasts until then."""
        if self._step == self._body_until_close:
            self._complete(now_s)

    def _between(self, data: bytes, position: int, now_s: float) -> int:
        first = data[position]
        if first in b"\r\n":  # an empty line before a message is ignored: RFC 9112, 2.2
            return position + 1
        stray = self._handler.message_started(first, now_s)
        if stray:
            self._left, self._step = stray, self._stray
            self.between_messages = False
            return position
        self._step = self._head
        self.between_messages = False
        return self._head(data, position, now_s)

    def _head(self, data: bytes, position: int, now_s: float) -> int:
        if not self._partial:
            found = data.find(_HEAD_END, position, position + MAX_HEAD_BYTES)
            if found >= 0:
                end = found + len(_HEAD_END)
                self._begin_body(data[position:end], now_s)
                return end
        held = len(self._partial)
        self._partial += data[position : position + MAX_HEAD_BYTES - held]
        found = self._partial.find(_HEAD_END, max(held - len(_HEAD_END) + 1, 0))
        if found < 0:
            if len(self._partial) >= MAX_HEAD_BYTES:
                raise too_large(f"head of more than {MAX_HEAD_BYTES} bytes")
            return len(data)
        end = found + len(_HEAD_END)
        head = bytes(self._partial[:end])
        self._partial.clear()
        self._begin_body(head, now_s)
        return position + end - held

    def _begin_body(self, head: bytes, now_s: float) -> None:
        length = self._handler.head_complete(head)
        if length == 0:
            self._complete(now_s)
        elif length == CHUNKED:
            self._step = self._chunk_size
        elif length == UNTIL_CLOSE:
            self._step = self._body_until_close
        else:
            self._left = length
            self._step = self._body

    def _complete(self, now_s: float) -> None:
        self._step = self._between
        self.between_messages = True
        self._handler.message_complete(now_s)

    def _take(self, data: bytes, position: int) -> int:
        end = min(len(data), position + self._left)
        self._handler.body_received(data, position, end)
        self._left -= end - position
        return end

    def _body(self, data: bytes, position: int, now_s: float) -> int:
        end = self._take(data, position)
        if not self._left:
            self._complete(now_s)
        return end

    def _stray(self, data: bytes, position: int, _now_s: float) -> int:
        end = min(len(data), position + self._left)
        self._left -= end - position
        if not self._left:
            self._step = self._between
            self.between_messages = True
        return end

    def _body_until_close(self, data: bytes, position: int, _now_s: float) -> int:
        self._handler.body_received(data, position, len(data))
        return len(data)

    def _line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The next line without its end, or None when it is not complete yet; and where reading goes on."""
        room = MAX_CHUNK_LINE_BYTES - len(self._partial)
        found = data.find(b"\n", position, position + room)
        if found < 0:
            if len(data) - position >= room:
                raise too_large(f"line of more than {MAX_CHUNK_LINE_BYTES} bytes in a chunked body")
            self._partial += data[position:]
            return None, len(data)
        line = bytes(self._partial) + data[position:found]
        self._partial.clear()
        return line.removesuffix(b"\r"), found + 1

    def _chunk_size(self, data: bytes, position: int, _now_s: float) -> int:
        line, position = self._line(data, position)
        if line is not None:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise malformed("chunk without a size")
            self._left = int(match[1], 16)
            self._trailer_bytes = 0
            self._step = self._chunk if self._left else self._trailers
        return position

    def _chunk(self, data: bytes, position: int, _now_s: float) -> int:
        end = self._take(data, position)
        if not self._left:
            self._step = self._chunk_end
        return end

    def _chunk_end(self, data: bytes, position: int, _now_s: float) -> int:
        line, position = self._line(data, position)
        if line:
            raise malformed("chunk longer than its size")
        if line is not None:
            self._step = self._chunk_size
        return position

    def _trailers(self, data: bytes, position: int, now_s: float) -> int:
        line, position = self._line(data, position)
        if line:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_HEAD_BYTES:
                raise too_large(f"trailers of more than {MAX_HEAD_BYTES} bytes")
        elif line is not None:
            self._complete(now_s)
        return position
