"""Accepts connections, joins each to Triton, and lets them finish when the tap stops."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.metrics import Protocol, RefusedReason
from latentry_serving.contract.tap_config import Address, TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import CallListener
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.tap.connection import Connection, reset
from latentry_serving.tap.http1 import Http1Observer
from latentry_serving.tap.http2 import Http2Observer
from latentry_serving.tap.observation import Observer
from latentry_serving.tap.readalong import ReadAlong

log = logging.getLogger(__name__)

_BACKLOG = 1_024
_DRAIN_CHECK_SECONDS = 0.05


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
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> tuple[int, int]:
        """Opens both ports; answers the numbers they got, HTTP first.

        Raises:
            OperationFailed: an address cannot be bound.
        """
        http = bind(self._config.http, "http")
        try:
            grpc = bind(self._config.grpc, "grpc")
        except OperationFailed:
            http.close()
            raise
        loop = asyncio.get_running_loop()
        for sock, protocol in ((http, Protocol.HTTP), (grpc, Protocol.GRPC)):
            server = await loop.create_server(partial(self._accept, protocol), sock=sock, backlog=_BACKLOG)
            self._servers.append(server)
        return http.getsockname()[1], grpc.getsockname()[1]

    def stop_listening(self) -> None:
        """Takes no more connections; those there are go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def drain(self, seconds: float) -> None:
        """Closes each connection once it carries no call; breaks what is left after ``seconds`` or when cancelled."""
        deadline_s = self._clock() + seconds
        try:
            while self._connections and self._clock() < deadline_s:
                for connection in [c for c in self._connections if c.idle]:
                    connection.close()
                await asyncio.sleep(_DRAIN_CHECK_SECONDS)
        finally:
            if self._connections:
                log.warning("connections broken at the end of the drain", extra={"connections": len(self._connections)})
            for connection in list(self._connections):
                connection.reset()

    def _accept(self, protocol: Protocol) -> asyncio.Protocol:
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
            on_closed=partial(self._closed, protocol),
        )
        self._connections.add(connection)
        self._book.connection_opened(protocol)
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


def bind(address: Address, name: str) -> socket.socket:
    """A listening socket.

    Args:
        name: what the address is called in the configuration.

    Raises:
        OperationFailed: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OperationFailed(
            f"cannot listen on {address}: {error.strerror or error}",
            remedy=f"free the port, or choose another {name} address in the tap's configuration (port 0: any free one)",
        ) from error
