"""Keeps an observer from ever harming the connection it reads along."""

import logging
from collections.abc import Callable

from latentry_serving.contract.metrics import OpaqueReason, Protocol
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.observation import Observer, SightLost

log = logging.getLogger(__name__)


class ReadAlong:
    """One connection's observer behind a guard: what it raises makes the connection opaque, nothing else."""

    __slots__ = ("_book", "_observer", "_protocol")

    def __init__(self, observer: Observer, protocol: Protocol, book: SliBook) -> None:
        self._observer: Observer | None = observer
        self._protocol = protocol
        self._book = book

    @property
    def idle(self) -> bool:
        """No call is in flight. Of an opaque connection nobody knows: it counts as busy."""
        return self._observer is not None and self._observer.idle

    @property
    def movable(self) -> bool:
        """As of the observer; an opaque connection never is."""
        return self._observer is not None and self._observer.movable

    @property
    def answer_is_next(self) -> bool:
        """As of the observer."""
        return self._observer is not None and self._observer.answer_is_next

    @property
    def protocol(self) -> Protocol:
        return self._protocol

    def goodbye(self, *, final: bool) -> bytes:
        """As of the observer; to an opaque connection nothing can be said."""
        return b"" if self._observer is None else self._observer.goodbye(final=final)

    def take_back(self) -> bytes | None:
        """As of the observer; of an opaque connection nothing can be taken back."""
        return None if self._observer is None else self._observer.take_back()

    def client_sent(self, data: bytes, now_s: float) -> None:
        """Bytes from the client, already on their way."""
        if self._observer is not None:
            try:
                self._observer.client_sent(data, now_s)
            except Exception as error:  # noqa: BLE001 - traffic must not depend on the observer
                self._lose_sight(error)

    def server_sent(self, data: bytes, now_s: float) -> None:
        """Bytes from Triton, already on their way."""
        if self._observer is not None:
            try:
                self._observer.server_sent(data, now_s)
            except Exception as error:  # noqa: BLE001 - traffic must not depend on the observer
                self._lose_sight(error)

    def client_gone(self, now_s: float) -> None:
        """The client sends no more."""
        self._tell(lambda observer: observer.client_gone(now_s))

    def server_gone(self, now_s: float, *, in_order: bool) -> None:
        """Triton sends no more."""
        self._tell(lambda observer: observer.server_gone(now_s, in_order=in_order))

    def closed(self, now_s: float) -> None:
        """The connection is over."""
        self._tell(lambda observer: observer.closed(now_s))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        if self._observer is not None:
            try:
                what(self._observer)
            except Exception as error:  # noqa: BLE001 - traffic must not depend on the observer
                self._lose_sight(error)

    def _lose_sight(self, error: Exception) -> None:
        observer, self._observer = self._observer, None
        if isinstance(error, SightLost):
            reason = error.reason
            log.debug("connection became opaque: %s", error, extra={"protocol": self._protocol, "reason": reason})
        else:
            reason = OpaqueReason.INTERNAL
            log.error("observer failed", exc_info=error, extra={"protocol": self._protocol})
        self._book.connection_opaque(self._protocol, reason)
        if observer is not None:
            try:
                observer.abandon()
            except Exception:
                log.exception("observer could not let go of its calls", extra={"protocol": self._protocol})
