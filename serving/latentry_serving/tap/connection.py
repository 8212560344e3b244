"""One client connection and its counterpart to Triton: bytes leave as they arrive, unmodified, in both directions."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from latentry_serving.contract.metrics import RefusedReason
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.readalong import ReadAlong

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
        self._early: list[bytes] = []
        self._write: Callable[[bytes], None] = self._keep
        self._observe = observe
        self._clock = clock
        self._buffer_bytes = buffer_bytes
        self._reset_when_flushed = False
        self.on_made: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.on_lost: Callable[[Exception | None], None] = _nothing

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
        self._write = other.transport.write
        for data in self._early:
            self._write(data)
        self._early.clear()
        if self.ended:
            other.end_writing()
        else:
            self.transport.resume_reading()

    def _keep(self, data: bytes) -> None:
        """Before the other end is there one read is kept, and no more is read."""
        self._early.append(data)
        if self.transport is not None:
            self.transport.pause_reading()

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


class Connection:
    """Joins a client's side to Triton's: ends, resets and refusals on one are mirrored to the other."""

    def __init__(
        self,
        upstream: Address,
        read_along: ReadAlong,
        *,
        clock: Callable[[], float],
        buffer_bytes: int,
        connect_timeout_s: float,
        on_closed: Callable[["Connection", RefusedReason | None], None],
    ) -> None:
        """
        Args:
            on_closed: called once, when both sides are gone; says why when the connection never reached Triton.
        """
        self.client = Side(read_along.client_sent, clock, buffer_bytes)
        self._server = Side(read_along.server_sent, clock, buffer_bytes)
        self._upstream = upstream
        self._read_along = read_along
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._on_closed = on_closed
        self._dialling: asyncio.Task[None] | None = None
        self._refused: RefusedReason | None = None
        self.client.on_made = self._dial_soon
        self.client.on_end = self._client_ended
        self.client.on_lost = self._client_lost
        self._server.on_end = self._server_ended
        self._server.on_lost = self._server_lost

    @property
    def idle(self) -> bool:
        """No call is in flight, as far as anybody can tell."""
        return self._read_along.idle

    def close(self) -> None:
        """Closes both sides after what is still buffered."""
        self.client.close()
        self._server.close()

    def reset(self) -> None:
        """Breaks both sides at once."""
        self.client.reset()
        self._server.reset()

    def _dial_soon(self) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.create_connection(lambda: self._server, self._upstream.host, self._upstream.port)
        except (OSError, TimeoutError):
            self._refused = RefusedReason.UPSTREAM_UNAVAILABLE
            self._server.lost = True
            self.client.reset()
            return
        if self.client.lost:
            self._server.reset()
            return
        self._server.join(self.client)
        self.client.join(self._server)

    def _client_ended(self) -> None:
        self._read_along.client_gone(self._clock())
        self._mirror_end(self._server)

    def _server_ended(self) -> None:
        self._read_along.server_gone(self._clock(), in_order=True)
        self._mirror_end(self.client)

    def _mirror_end(self, other: Side) -> None:
        if self.client.ended and self._server.ended:
            self.close()
        elif other.other is not None:  # else it is told when it joins
            other.end_writing()

    def _client_lost(self, error: Exception | None) -> None:
        self._read_along.client_gone(self._clock())
        if self._server.transport is None:
            self._give_up_dialling()
        self._side_lost(self._server, error)

    def _server_lost(self, error: Exception | None) -> None:
        self._read_along.server_gone(self._clock(), in_order=False)
        self._side_lost(self.client, error)

    def _give_up_dialling(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        self._server.lost = True

    def _side_lost(self, other: Side, error: Exception | None) -> None:
        if self.client.lost and self._server.lost:
            self._read_along.closed(self._clock())
            self._on_closed(self, self._refused)
        elif error is None:
            other.close()
        else:
            other.reset_after_flush()
