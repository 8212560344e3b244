"""Has clients leave without harm: told to go when the protocol has a word for it, moved, or let go between calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from weakref import WeakKeyDictionary

from latentry_serving.contract.metrics import Protocol
from latentry_serving.tap.connection import Connection

_LOOK_SECONDS = 0.05
NOTICE_SECONDS = 1.0
"""How long a client that was told to go has to do so itself, and how long a silent HTTP/1.1 connection may yet send a
request whose answer can tell it. Envoy and gRPC servers wait between their two GOAWAYs as well."""

MOST_AT_ONCE = 64
"""Connections moved together; the kernel takes at most 253 descriptors in a message."""

Move = Callable[[Sequence[Connection]], Awaitable[int]]
"""Takes connections that can be moved; answers how many of them, from the first on, are gone."""


class Departure:
    """The connections of a tap that hands over or stops."""

    def __init__(
        self, connections: Callable[[], set[Connection]], clock: Callable[[], float], move: Move | None = None
    ) -> None:
        """
        Args:
            connections: those there are at the moment.
            clock: monotonic seconds.
            move: where HTTP/1.1 connections go between two calls; without it they are ended there.
        """
        self._connections = connections
        self._clock = clock
        self._move = move
        self._since_s: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        """When a connection was told to go, or last heard of."""
        self._stirred: set[Connection] = set()
        self._held: set[Connection] = set()
        self._wake = asyncio.Event()
        self._looked_s = float("-inf")
        """When it last looked after all of them."""
        self.moved = 0
        self.seen = 0
        """Connections there were since it began."""

    async def run(self, seconds: float) -> None:
        """Goes on until nobody is left or ``seconds`` are over; whoever is left after that is served as before.

        Raises:
            OSError: the process that clients are moved to is gone; those not moved yet are served as before.
        """
        deadline_s = self._clock() + seconds
        try:
            while self._connections() and self._clock() < deadline_s:
                self._wake.clear()
                for connection in self._due():
                    self._look_after(connection)
                if not await self._move_on():
                    await self._stir()
        finally:
            for connection in self._held:
                connection.release()
            for connection in self._connections():
                if not connection.parted:
                    connection.watch(None)

    def _due(self) -> set[Connection]:
        """All of them now and then; in between only those of which something was heard."""
        stirred, self._stirred = self._stirred, set()
        now_s = self._clock()
        if now_s - self._looked_s < _LOOK_SECONDS:
            return stirred & self._connections()
        self._looked_s = now_s
        return set(self._connections())

    async def _stir(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._wake.wait()

    def _heard(self, connection: Connection) -> None:
        """Called within the loop's turn in which an answer went on, or the client began to wait: nothing of the next
        request is read before."""
        if connection.waiting:
            self._look_after(connection)
        elif connection.protocol is Protocol.GRPC:
            self._tell(connection)
        else:
            self._since_s[connection] = self._clock()
            self._hold(connection)
        self._wake.set()
        self._stirred.add(connection)

    def _look_after(self, connection: Connection) -> None:
        if connection.parted:
            return
        if not connection.joined:
            self._look_after_unjoined(connection)
            return
        if connection not in self._since_s:
            self._welcome(connection)
        if connection.protocol is Protocol.GRPC:
            self._look_after_grpc(connection)
        elif self._move is not None:
            self._hold(connection)
        else:
            self._look_after_http(connection)

    def _look_after_unjoined(self, connection: Connection) -> None:
        connection.watch(self._heard)
        if not connection.waiting:
            return
        if connection not in self._since_s:
            self.seen += 1
            self._since_s[connection] = self._clock()
        if self._move is not None:
            self._held.add(connection)
        else:
            connection.stop_waiting()

    def _welcome(self, connection: Connection) -> None:
        self.seen += 1
        self._since_s[connection] = self._clock()
        connection.watch(self._heard)
        if connection.protocol is Protocol.HTTP and self._move is None:
            connection.end_with_next_answer()

    def _look_after_grpc(self, connection: Connection) -> None:
        self._tell(connection)
        if connection.idle and self._quiet(connection) and (connection.told or not connection.client.unread):
            connection.part()

    def _look_after_http(self, connection: Connection) -> None:
        if connection.idle and (connection.told or (self._quiet(connection) and not connection.client.unread)):
            connection.part()

    def _tell(self, connection: Connection) -> None:
        if not connection.told and connection.say_goodbye():
            self._since_s[connection] = self._clock()

    def _quiet(self, connection: Connection) -> bool:
        return self._clock() - self._since_s[connection] >= NOTICE_SECONDS

    def _hold(self, connection: Connection) -> None:
        if self._move is not None and connection.between_calls and connection not in self._held:
            connection.hold()
            self._held.add(connection)

    async def _move_on(self) -> bool:
        """Moves whoever is ready; False when nobody was."""
        if self._move is None:
            return False
        self._held &= self._connections()
        ready = [connection for connection in self._held if connection.movable][:MOST_AT_ONCE]
        if not ready:
            return False
        moving = asyncio.ensure_future(self._move(ready))
        try:
            # Whoever cancels this waits until it is known who reads from these clients.
            gone = await asyncio.shield(moving)
        except asyncio.CancelledError:
            await asyncio.wait({moving})
            self._let_go(ready, 0 if moving.exception() else moving.result())
            raise
        self._let_go(ready, gone)
        return gone > 0

    def _let_go(self, ready: Sequence[Connection], gone: int) -> None:
        self.moved += gone
        self._held.difference_update(ready)
        for connection in ready[:gone]:
            connection.close()
        for connection in ready[gone:]:
            connection.release()
