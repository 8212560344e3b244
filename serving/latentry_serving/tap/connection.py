"""One client connection and its counterpart to Triton: bytes leave as they arrive, unmodified, in both directions."""

import asyncio
from collections.abc import Callable
from functools import partial

from latentry_serving.contract.metrics import Protocol, RefusedReason
from latentry_serving.contract.tap_config import Address
from latentry_serving.tap.http1_heads import with_connection_close
from latentry_serving.tap.readalong import ReadAlong
from latentry_serving.tap.side import Side

_LINGER_SECONDS = 1.0
"""After the tap's own end: how long what the client still sends is thrown away. Closing at once would answer it with a
RST, and that may overtake what the client has yet to read."""


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
        self.told = False
        """The client was told that its next call belongs elsewhere."""
        self.parted = False
        """Given up by this side: it only waits for the client to close."""
        self.client.on_made = self._dial_soon
        self.client.on_end = self._client_ended
        self.client.on_lost = self._client_lost
        self._server.on_end = self._server_ended
        self._server.on_lost = self._server_lost

    @property
    def protocol(self) -> Protocol:
        return self._read_along.protocol

    @property
    def joined(self) -> bool:
        """Triton has taken the connection."""
        return self.client.other is not None

    @property
    def idle(self) -> bool:
        """No call is in flight, as far as anybody can tell."""
        return self._read_along.idle

    @property
    def between_calls(self) -> bool:
        """Triton and this process owe the client nothing, and what it sends next could as well go elsewhere."""
        return self._read_along.movable and self.joined and self._server.steady

    @property
    def movable(self) -> bool:
        """`between_calls`, and nothing is on its way to the client either: its socket may go to another process."""
        return self.between_calls and self.client.steady and not self._server.unread

    def hold(self) -> None:
        """Leaves what either side sends in the kernel."""
        self.client.pause()
        self._server.pause()

    def release(self) -> None:
        """Reads on after `hold`."""
        self.client.resume()
        self._server.resume()

    def watch(self, told: Callable[["Connection"], None] | None) -> None:
        """Has ``told`` called whenever something from Triton went on to the client; None: no more."""
        self._server.watch(None if told is None else partial(told, self))

    def say_goodbye(self) -> bool:
        """Tells the client to make its next call elsewhere, where the protocol has a word for it and this is the
        moment. Calls in flight and those already on their way are still answered."""
        word = self._read_along.goodbye(final=False)
        self.told = bool(word) and self.client.say(word)
        return self.told

    def end_with_next_answer(self) -> None:
        """Has the next answer say that it is the connection's last: HTTP/1.1's word for it."""

        def rewritten(data: bytes) -> bytes:
            last = with_connection_close(data) if not self.told and self._read_along.answer_is_next else None
            self.told = self.told or last is not None
            return data if last is None else last

        self._server.rewrite(rewritten)

    def part(self) -> None:
        """Ends an idle connection such that nothing the client sends meanwhile is half done: over HTTP/2 it is told
        which calls were never begun, and none reaches Triton after that. Does nothing while the protocol forbids it."""
        word = self._read_along.goodbye(final=True)
        if self.told and not word and self.protocol is Protocol.GRPC:
            return
        self.parted = True
        self.client.deafen()
        self.client.on_end = self.client.close
        self._server.on_lost = lambda _error: self._over()
        self._server.close()
        self.client.say(word)
        self.client.end_writing()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.client.close)

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
        if self._over():
            return
        if error is None:
            other.close()
        else:
            other.reset_after_flush()

    def _over(self) -> bool:
        over = self.client.lost and self._server.lost
        if over:
            self._read_along.closed(self._clock())
            self._on_closed(self, self._refused)
        return over
