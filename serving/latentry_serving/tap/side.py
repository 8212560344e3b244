"""One end of a forwarded connection."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

_LINGER_NOT = struct.pack("ii", 1, 0)
_FLUSH_SECONDS = 10.0
"""After a reset on one side: how long the other may take to fetch what was sent to it before."""

# A client whose machine vanished without a word is noticed after 60 + 4 * 15 seconds.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class Side(asyncio.Protocol):
    """One of the two ends. Every byte goes to the other end before anything else looks at it."""

    def __init__(self, observe: Callable[[bytes, float], None], clock: Callable[[], float], buffer_bytes: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.ended = False
        """It sent its last byte."""
        self.lost = False
        self._early: list[tuple[bytes, float]] = []
        self._write: Callable[[bytes], None] = self._keep
        self._observe_only = observe
        self._observed = observe
        self._observe: Callable[[bytes, float], None] = _nothing
        self._clock = clock
        self._buffer_bytes = buffer_bytes
        self._reset_when_flushed = False
        self.on_made: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.on_lost: Callable[[Exception | None], object] = _nothing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._buffer_bytes)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.on_made()

    def data_received(self, data: bytes) -> None:
        now_s = self._clock()
        self._write(data)
        self._observe(data, now_s)

    def join(self, other: "Side") -> None:
        """The other end is there: what came early leaves now, what comes later at once."""
        self.other = other
        assert self.transport is not None  # noqa: S101 - join is called by connections only
        assert other.transport is not None  # noqa: S101
        self._write, self._observe = other.transport.write, self._observed
        for data, now_s in self._early:
            self._write(data)
            self._observe(data, now_s)
        self._early.clear()
        if self.ended:
            other.end_writing()
        else:
            self.transport.resume_reading()

    def _keep(self, data: bytes) -> None:
        """Before the other end is there one read is kept, unobserved, and no more is read."""
        self._early.append((data, self._clock()))
        if self.transport is not None:
            self.transport.pause_reading()

    def separate(self, unsaid: bytes = b"") -> None:
        """There is no other end any more; another one may join, and is told ``unsaid`` first."""
        self.other, self._write, self._observe = None, self._keep, _nothing
        if unsaid:
            self._keep(unsaid)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._reset_when_flushed:
            self.reset()
        elif self.other is not None and self.other.transport is not None and not self.other.ended:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        self.on_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.on_lost(exc)

    def end_writing(self) -> None:
        """Ends this end's sending direction after what is still buffered."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Closes after what is still buffered."""
        if self.transport is not None:
            self.transport.close()

    def say(self, word: bytes) -> bool:
        """Sends its peer something of the tap's own; False when it is gone."""
        if self.transport is None or self.transport.is_closing():
            return False
        if word:
            self.transport.write(word)
        return True

    @property
    def early(self) -> bytes:
        """What was read and has gone nowhere yet."""
        return b"".join(data for data, _ in self._early)

    @property
    def steady(self) -> bool:
        """Connected, not about to end, and everything given to it has left."""
        transport = self.transport
        if transport is None or self.lost or self.ended or transport.is_closing():
            return False
        return not transport.get_write_buffer_size()

    @property
    def unread(self) -> bool:
        """Bytes, an end or a reset wait in the kernel, or have been seen."""
        if self.transport is None or self.lost or self.ended or self.transport.is_closing():
            return True
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=self.fileno())
        try:
            sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            sock.detach()
        return True

    def fileno(self) -> int:
        """The socket's descriptor."""
        assert self.transport is not None  # noqa: S101 - asked of connected sides only
        return int(self.transport.get_extra_info("socket").fileno())

    def pause(self) -> None:
        """Reads no more; what comes stays in the kernel."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on after `pause`."""
        if self.transport is not None:
            self.transport.resume_reading()

    def deafen(self) -> None:
        """What it still sends goes nowhere."""
        self._write = self._observe = _nothing
        self.resume()

    def watch(self, told: Callable[[], None] | None) -> None:
        """Has ``told`` called after each read has gone on and was observed; None: no more."""
        observe = self._observe_only

        def observed(data: bytes, now_s: float) -> None:
            observe(data, now_s)
            if told is not None:
                told()

        self._observed = observe if told is None else observed
        if self.other is not None:
            self._observe = self._observed

    def rewrite(self, rewritten: Callable[[bytes], bytes]) -> None:
        """Has every read go through ``rewritten`` on its way from now on."""
        write = self._write
        self._write = lambda data: write(rewritten(data))

    def reset(self) -> None:
        """Breaks the connection at once, and visibly so: the peer gets a RST, not an end."""
        if self.transport is not None and not self.lost:
            reset(self.transport)

    def reset_after_flush(self) -> None:
        """Breaks the connection once the peer has what was sent to it before."""
        if self.transport is None or self.lost:
            return
        if not self.transport.get_write_buffer_size():
            self.reset()
            return
        self._reset_when_flushed = True
        self.transport.set_write_buffer_limits(high=0)
        asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.reset)


def reset(transport: asyncio.BaseTransport) -> None:
    """Breaks a connection at once, dropping what is still buffered: the peer gets a RST."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    cast(asyncio.Transport, transport).abort()


def _nothing(*_: object) -> None:
    """Before a side belongs to a connection nobody listens."""
