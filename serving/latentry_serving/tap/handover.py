"""Hands the clients of one tap to another, without a failed call: the sending side.

The listening sockets are shared already (`listening`). HTTP/1.1 connections move between two calls: the client's socket
goes through a Unix socket (SCM_RIGHTS, unix(7)) while nobody reads from it, and this process lets go of its copy only
after the other has said that it has it, and before that one reads. So every byte is read by exactly one of them,
whoever dies when. HTTP/2 connections cannot move, their header tables being in three processes' memories; their clients
are told to go (GOAWAY), and come back through the listening socket. Clients that wait because Triton is gone move
whatever they speak, with what has been read of them: it was forwarded to nobody.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.tap.connection import Connection
from latentry_serving.tap.control_wire import ControlWire
from latentry_serving.tap.departure import Departure, Move
from latentry_serving.tap.forwarder import Forwarder
from latentry_serving.tap.moved import Moved, sent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handover:
    """How one went: connections that moved, that ended by themselves or on being told, and that are still here."""

    moved: int
    ended: int
    left: int
    problem: str = ""
    """Why it went no further; then this tap accepts clients as before."""


async def hand_over(forwarder: Forwarder, to: str, seconds: float, clock: Callable[[], float]) -> Handover:
    """Has another tap accept clients in this one's place, and moves those there are. Returns when nobody is left here,
    or after ``seconds``; who is left then is served as before. Cancelled, it stops where it is.

    Args:
        to: path of the other tap's control socket.
        clock: monotonic seconds.
    """
    try:
        wire = await ControlWire.connect(to)
    except OSError as error:
        return Handover(0, 0, len(forwarder.connections), problem=f"{to}: {error.strerror or error}")
    departure = Departure(lambda: forwarder.connections, clock, _mover(wire))
    problem = ""
    try:
        await wire.ask({"do": "accept"})
        await _without_doors(forwarder, departure.run(seconds))
    except (OSError, OperationFailed) as error:
        problem = f"{to}: {error}"
        log.warning("handover stopped: %s", problem)
    finally:
        wire.close()
    left = len(forwarder.connections)
    ended = max(departure.seen - departure.moved - left, 0)  # of those left some may have come while it began
    return Handover(moved=departure.moved, ended=ended, left=left, problem=problem)


async def _without_doors(forwarder: Forwarder, departing: Awaitable[None]) -> None:
    """Stops accepting clients; accepts them again when the other tap fails."""
    forwarder.doors.stop_accepting()
    try:
        await forwarder.doors.settled()
        await departing
    except Exception:
        await forwarder.doors.accept()
        raise


def _mover(wire: ControlWire) -> Move:
    async def move(connections: Sequence[Connection]) -> int:
        clients = [
            Moved(connection.client.fileno(), connection.protocol, connection.client.early)
            for connection in connections
        ]
        with sent(clients) as (message, descriptors):
            answer = await wire.ask({"do": "adopt", **message}, descriptors)
        return int(answer.get("taken", 0))

    return move
