"""What the forwarder asks of an observer, and how an observer gives up."""

from typing import Protocol as Interface

from latentry_serving.contract.metrics import OpaqueReason


class SightLost(Exception):
    """The observer cannot follow the connection any further; the bytes go on without it."""

    def __init__(self, reason: OpaqueReason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


def malformed(why: str) -> SightLost:
    """The bytes are not what the protocol allows."""
    return SightLost(OpaqueReason.MALFORMED, why)


def too_large(why: str) -> SightLost:
    """Following on would need more memory than one connection may take."""
    return SightLost(OpaqueReason.TOO_LARGE, why)


class Observer(Interface):
    """Reads one connection along, both directions. Pure: bytes and monotonic times in, calls out to a listener.

    The bytes of each direction may be cut anywhere; the calls told are the same. Any method that takes bytes raises
    `SightLost` when the observer gives up; after that only `abandon` may be called.
    """

    @property
    def idle(self) -> bool:
        """No call is in flight and no message has begun."""

    @property
    def movable(self) -> bool:
        """Idle, and what comes next could as well go to another server that saw nothing of what was before."""

    @property
    def answer_is_next(self) -> bool:
        """Over HTTP/1: Triton's next bytes begin the answer to the only request that waits for one."""

    def goodbye(self, *, final: bool) -> bytes:
        """What may be said to the client now, between two of Triton's frames, to have it go elsewhere; empty where
        the protocol has no word for it, or not at this point. ``final``: nothing that it has begun since is answered.
        """

    def take_back(self) -> bytes | None:
        """What another server has to be told in this one's place, when this one can have begun nothing and owes the
        client nothing: all that the client said that is not over. The observer is then as if nothing of it had been
        said. None: that cannot be, and nothing changed."""

    def client_sent(self, data: bytes, now_s: float) -> None:
        """Bytes from the client."""

    def server_sent(self, data: bytes, now_s: float) -> None:
        """Bytes from Triton."""

    def client_gone(self, now_s: float) -> None:
        """The client sends no more: it ended its side or the connection broke."""

    def server_gone(self, now_s: float, *, in_order: bool) -> None:
        """Triton sends no more: it ended its side ``in_order``, or the connection broke."""

    def closed(self, now_s: float) -> None:
        """The connection is over: every call still open ends as what went first says."""

    def abandon(self) -> None:
        """Lets go of every open call without an outcome."""
