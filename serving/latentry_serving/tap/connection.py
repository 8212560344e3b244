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
        patience_s: Callable[[], float],
        on_closed: Callable[["Connection", RefusedReason | None], None],
    ) -> None:
        """
        Args:
            patience_s: how long the client may wait for another tap when nobody listens where Triton should; 0: it is
                refused at once.
            on_closed: called once, when both sides are gone; says why when the connection never reached Triton.
        """
        self.client = Side(read_along.client_sent, clock, buffer_bytes)
        self._new_server = partial(Side, read_along.server_sent, clock, buffer_bytes)
        self._server = self._new_server()
        self._upstream = upstream
        self._read_along = read_along
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._patience_s = patience_s
        self._on_closed = on_closed
        self._dialling: asyncio.Task[None] | None = None
        self._refused: RefusedReason | None = None
        self.told = False
        """The client was told that its next call belongs elsewhere."""
        self.parted = False
        """Given up by this side: it only waits for the client to close."""
        self._waiting: asyncio.TimerHandle | None = None
        self._patient = True
        self._had_calls = False
        """It was joined to Triton before."""
        self._bereft = False
        """Triton ended this connection, in which nothing was under way, and whether it is gone altogether is being
        found out."""
        self._told: Callable[[Connection], None] | None = None
        self.client.on_made = self._dial_soon
        self.client.on_end = self._client_ended
        self.client.on_lost = self._client_lost
        self._listen_to_server()

    @property
    def protocol(self) -> Protocol:
        return self._read_along.protocol

    @property
    def joined(self) -> bool:
        """Triton has taken the connection."""
        return self.client.other is not None

    @property
    def waiting(self) -> bool:
        """Nobody listens where Triton should, and of what the client said nothing is under way: its socket may go to
        another process, with what was read of it (``early``), whatever it speaks."""
        return self._waiting is not None

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
        """`waiting`, or `between_calls` and nothing on its way to the client either: its socket may go to another
        process."""
        return self.waiting or (self.between_calls and self.client.steady and not self._server.unread)

    def hold(self) -> None:
        """Leaves what either side sends in the kernel."""
        self.client.pause()
        self._server.pause()

    def release(self) -> None:
        """Reads on after `hold`."""
        if not self.waiting:
            self.client.resume()
            self._server.resume()

    def watch(self, told: Callable[["Connection"], None] | None) -> None:
        """Has ``told`` called when something from Triton went on to the client, or it begins to wait; None: no more."""
        self._told = told
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

    def stop_waiting(self) -> None:
        """Tries Triton for a last time; who waits no longer is refused as ever."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting, self._patient = None, False
            self._redial()

    def _redial(self) -> None:
        self._server = self._new_server()
        self._listen_to_server()
        self._dial_soon()

    def _dial_soon(self) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    def _listen_to_server(self) -> None:
        self._server.on_end = self._server_ended
        self._server.on_lost = self._server_lost

    async def _dial(self) -> None:
        try:
            await self._connect()
        except (OSError, TimeoutError) as error:
            self._server.lost = True
            if isinstance(error, ConnectionRefusedError) and self._may_wait:
                self._wait()
            else:
                self._refuse()
            return
        if self.client.lost:
            self._server.reset()
        elif self._bereft:  # Triton is well, and has done with this client
            self._read_along.server_gone(self._clock(), in_order=True)
            self.close()
        else:
            self._patient = True
            self._server.join(self.client)
            self.client.join(self._server)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_timeout_s):
            await loop.create_connection(lambda: self._server, self._upstream.host, self._upstream.port)

    @property
    def _may_wait(self) -> bool:
        return self._patient and self._patience_s() > 0 and not (self.client.ended or self.client.lost)

    def _refuse(self) -> None:
        if self._had_calls and not (
            self.client.early or self.client.unread
        ):  # the end of an idle connection is nobody's failure
            self.client.close()
            return
        self._refused = RefusedReason.UPSTREAM_UNAVAILABLE
        self.client.reset()

    def _wait(self) -> None:
        self._bereft = False
        self.client.pause()
        self._waiting = asyncio.get_running_loop().call_later(self._patience_s(), self.stop_waiting)
        if self._told is not None:
            self._told(self)

    def _outlives_triton(self) -> bool:
        """Whether the client stays although Triton's side is gone: nothing is lost between two calls of HTTP/1.1, nor
        when Triton's kernel took the connection and Triton was told of no call and never said a word."""
        if not self._patience_s() or not self.client.steady or self.told or self.parted or self._bereft:
            return False
        unsaid = self._taken_back()
        if unsaid is None:
            return False
        if self._dialling is not None:  # it may have connected, and not gone on yet
            self._dialling.cancel()
        old, self._bereft, self._had_calls = self._server, True, True
        old.on_end = old.on_lost = _nothing
        self.client.pause()
        self.client.separate(unsaid)
        old.separate()
        old.close()
        self._redial()
        return True

    def _taken_back(self) -> bytes | None:
        if self.joined:
            return self._read_along.take_back()
        return None if self._server.early else b""  # what the client said is kept still

    def _client_ended(self) -> None:
        self._read_along.client_gone(self._clock())
        self._mirror_end(self._server)

    def _server_ended(self) -> None:
        if self._outlives_triton():
            return
        self._read_along.server_gone(self._clock(), in_order=True)
        self._mirror_end(self.client)

    def _mirror_end(self, other: Side) -> None:
        if self.client.ended and self._server.ended:
            self.close()
        elif other.other is not None:  # else it is told when it joins
            other.end_writing()

    def _client_lost(self, error: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._read_along.client_gone(self._clock())
        if self._server.transport is None:
            self._give_up_dialling()
        self._side_lost(self._server, error)

    def _server_lost(self, error: Exception | None) -> None:
        if self._outlives_triton():
            return
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


def _nothing(*_: object) -> None:
    """A side that no longer belongs to a connection has nobody to tell."""
