"""Accepts connections, joins each to Triton, and lets them finish when the tap stops."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from latentry_serving.contract.metrics import Protocol, RefusedReason
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import CallListener
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.tap.connection import Connection
from latentry_serving.tap.departure import Departure
from latentry_serving.tap.http1 import Http1Observer
from latentry_serving.tap.http2 import Http2Observer
from latentry_serving.tap.listening import Doors
from latentry_serving.tap.observation import Observer
from latentry_serving.tap.readalong import ReadAlong
from latentry_serving.tap.side import reset

log = logging.getLogger(__name__)


class Forwarder:
    """Both listeners and every connection that came through them."""

    def __init__(self, config: TapConfig, book: SliBook, listener: CallListener, clock: Callable[[], float]) -> None:
        """
        Args:
            book: counts connections.
            listener: told of calls.
            clock: monotonic seconds.
        """
        self._config = config
        self._book = book
        self._listener = listener
        self._clock = clock
        self._catalogue = Catalogue(config.operations)
        self._connections: set[Connection] = set()
        self._patience_s = config.hold_seconds
        self.doors = Doors(config, self._accept)

    async def listen(self) -> tuple[int, int]:
        """Opens both ports; answers the numbers they got, HTTP first.

        Raises:
            OperationFailed: an address cannot be bound.
            InvalidInput: an inherited descriptor is no listening TCP socket.
        """
        return await self.doors.listen()

    @property
    def connections(self) -> set[Connection]:
        """Those of clients that are not gone."""
        return self._connections

    @property
    def room(self) -> int:
        """How many clients another tap may hand over now: none to one that takes no clients."""
        return self._config.max_connections - len(self._connections) if self.doors.accepting else 0

    def be_patient(self, seconds: float) -> None:
        """For how long clients wait for another tap while nobody listens where Triton should; 0: they are refused at
        once, those that wait too."""
        self._patience_s = seconds
        if not seconds:
            for connection in list(self._connections):
                connection.stop_waiting()

    async def adopt(self, client: socket.socket, protocol: Protocol, early: bytes) -> None:
        """Serves a client that another tap accepted.

        Args:
            early: what that one has read of it, and forwarded nowhere.
        """
        try:
            await asyncio.get_running_loop().connect_accepted_socket(partial(self._accept, protocol, early), client)
        except OSError as error:  # the client is gone
            log.info("a client did not live to be adopted: %s", error)
            client.close()

    async def drain(self, seconds: float) -> None:
        """Has each client leave between two calls; breaks what is left after ``seconds`` or when cancelled."""
        try:
            await Departure(lambda: self._connections, self._clock).run(seconds)
        finally:
            if self._connections:
                log.warning("connections broken at the end of the drain", extra={"connections": len(self._connections)})
            for connection in list(self._connections):
                if connection.parted:
                    connection.close()
                else:
                    connection.reset()

    def _accept(self, protocol: Protocol, early: bytes = b"") -> asyncio.Protocol:
        """The protocol of a connection just accepted."""
        if len(self._connections) >= self._config.max_connections:
            self._book.connection_refused(protocol, RefusedReason.CONNECTION_LIMIT, self._clock())
            return _Refusal()
        observer: Observer
        if protocol is Protocol.HTTP:
            observer, upstream = Http1Observer(self._catalogue, self._listener), self._config.upstream_http
        else:
            observer, upstream = Http2Observer(self._catalogue, self._listener), self._config.upstream_grpc
        connection = Connection(
            upstream,
            ReadAlong(observer, protocol, self._book),
            clock=self._clock,
            buffer_bytes=self._config.buffer_bytes,
            connect_timeout_s=self._config.connect_timeout_seconds,
            patience_s=lambda: self._patience_s,
            on_closed=partial(self._closed, protocol),
        )
        self._connections.add(connection)
        self._book.connection_opened(protocol)
        if early:
            connection.client.data_received(early)
        return connection.client

    def _closed(self, protocol: Protocol, connection: Connection, refused: RefusedReason | None) -> None:
        self._connections.discard(connection)
        self._book.connection_closed(protocol)
        if refused is not None:
            self._book.connection_refused(protocol, refused, self._clock())


class _Refusal(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        reset(transport)
