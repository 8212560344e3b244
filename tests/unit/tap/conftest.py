"""A listener that writes down what an observer tells, and scripts replayed in pieces."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from latentry_serving.sli.calls import Call
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.tap.http1 import Http1Observer
from latentry_serving.tap.http2 import Http2Observer
from latentry_serving.tap.observation import Observer, SightLost

CLIENT, SERVER = "client", "server"


@dataclass
class Recorder:
    """Listens; ``told`` is what happened, in order, without times."""

    calls: list[Call] = field(default_factory=list)
    told: list[tuple] = field(default_factory=list)

    def call_begun(self, call: Call) -> None:
        """Told before the operation is known: listeners only get a chance to ask for the payload."""

    def call_started(self, call: Call) -> None:
        self.calls.append(call)
        self.told.append(("started", call.operation, str(call.kind)))

    def call_finished(self, call: Call) -> None:
        outcome = call.outcome and str(call.outcome)
        self.told.append(("finished", call.operation, outcome, call.request_bytes, call.response_bytes))


class Replay:
    """Feeds an observer a script and collects everything it tells."""

    def __init__(self, make: Callable[[Catalogue, Recorder], Observer], operations: dict[str, str]) -> None:
        self.recorder = Recorder()
        self.observer = make(Catalogue(operations), self.recorder)
        self.lost: str | None = None

    def feed(self, pieces: Iterable[tuple[str, bytes]]) -> None:
        """Bytes of one side after the other; a gap in sight ends the reading, as in the forwarder."""
        for side, data in pieces:
            if self.lost is not None:
                return
            try:
                (self.observer.client_sent if side == CLIENT else self.observer.server_sent)(data, 0.0)
            except SightLost as loss:
                self.lost = str(loss.reason)
                self.observer.abandon()

    @property
    def told(self) -> list[tuple]:
        return [*self.recorder.told, *([("lost", self.lost)] if self.lost else [])]


def cut(script: Sequence[tuple[str, bytes]], positions: Sequence[int]) -> list[tuple[str, bytes]]:
    """The script with its bytes cut at positions counted over all sides."""
    pieces, offset = [], 0
    for side, data in script:
        inside = sorted({p - offset for p in positions if 0 < p - offset < len(data)})
        pieces += [(side, data[a:b]) for a, b in zip([0, *inside], [*inside, len(data)], strict=True) if a < b]
        offset += len(data)
    return pieces


def every_cut(script: Sequence[tuple[str, bytes]]) -> Iterable[list[tuple[str, bytes]]]:
    """The script cut once at every position, and into single bytes."""
    size = sum(len(data) for _, data in script)
    for position in range(1, size):
        yield cut(script, [position])
    yield cut(script, range(size))


OPERATIONS = {"digits_encode": "encode", "digits_decode": "decode"}


@pytest.fixture(scope="session")
def http1() -> Callable[[], Replay]:
    return lambda: Replay(Http1Observer, OPERATIONS)


@pytest.fixture(scope="session")
def http2() -> Callable[[], Replay]:
    return lambda: Replay(Http2Observer, OPERATIONS)


@pytest.fixture(scope="session")
def cutting() -> Callable[..., list[tuple[str, bytes]]]:
    return cut


@pytest.fixture(scope="session")
def cutting_everywhere() -> Callable[..., Iterable[list[tuple[str, bytes]]]]:
    return every_cut
