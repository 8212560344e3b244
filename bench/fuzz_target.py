"""What the fuzzer runs on every input: a conversation, read along whole and byte by byte.

``python -m bench.fuzz_target http1|http2 [libFuzzer's arguments]``, with atheris installed; `bench.fuzz_tap` starts it.
What must hold: nothing but the loss of sight escapes, every call is begun once, started once and let go of once, and
the calls told do not depend on how the bytes are cut.
"""

import sys
from collections.abc import Iterator, Sequence

import atheris

with atheris.instrument_imports(include=["latentry_serving", "hpack"]):
    from latentry_serving.sli.calls import Call
    from latentry_serving.sli.catalogue import Catalogue
    from latentry_serving.tap.http1 import Http1Observer
    from latentry_serving.tap.http2 import Http2Observer
    from latentry_serving.tap.http2_framing import CLIENT_PREFACE
    from latentry_serving.tap.observation import SightLost

from bench.fuzz_seeds import FROM_CLIENT, WHOLE_FRAME

OBSERVERS = {"http1": Http1Observer, "http2": Http2Observer}
_OPERATIONS = {"digits_encode": "encode"}
_LENGTH_MASK = 0x3FFF

Piece = tuple[bool, bytes]
"""Bytes, and whether the client sent them."""


class Told:
    """Writes down what an observer tells. Times are left out: they follow the cuts."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self._open: dict[int, list[str]] = {}

    def call_begun(self, call: Call) -> None:
        self._open[id(call)] = ["begun"]

    def call_started(self, call: Call) -> None:
        self._open.setdefault(id(call), []).append("started")
        self.events.append(("started", call.operation, call.kind))

    def call_finished(self, call: Call) -> None:
        steps = self._open.pop(id(call))
        if steps not in (["begun", "started"], ["started"]):
            raise AssertionError(f"a call finished after {steps}")
        self.events.append(("finished", call.operation, call.outcome, call.request_bytes, call.response_bytes))

    def check_all_finished(self) -> None:
        if self._open:
            raise AssertionError(f"{len(self._open)} calls were never let go of")


def conversation(data: bytes) -> Iterator[Piece]:
    """Records: two bytes with side, form and length, then the payload; as a whole HTTP/2 frame that is type, flags and
    stream in a byte each and then the frame's payload."""
    position = 0
    while position + 2 <= len(data):
        head = int.from_bytes(data[position : position + 2])
        payload = data[position + 2 : position + 2 + (head & _LENGTH_MASK)]
        position += 2 + len(payload)
        if head & WHOLE_FRAME and len(payload) >= 3:
            payload = (len(payload) - 3).to_bytes(3) + payload[:2] + payload[2].to_bytes(4) + payload[3:]
        yield bool(head & FROM_CLIENT), payload


def read_along(name: str, pieces: Sequence[Piece]) -> list[tuple[object, ...]]:
    """Everything an observer tells of a conversation and its end."""
    told = Told()
    observer = OBSERVERS[name](Catalogue(_OPERATIONS), told)
    try:
        for by_client, data in pieces:
            (observer.client_sent if by_client else observer.server_sent)(data, 0.0)
        _ = observer.idle
        observer.client_gone(1.0)
        observer.server_gone(1.0, in_order=True)
        observer.closed(1.0)
    except SightLost as loss:
        observer.abandon()
        told.events.append(("lost", loss.reason))
    told.check_all_finished()
    return told.events


def check(name: str, data: bytes) -> None:
    """Raises AssertionError, or whatever escapes an observer."""
    pieces = [(by_client, piece) for by_client, piece in conversation(data) if piece]
    if name == "http2":
        pieces.insert(0, (True, CLIENT_PREFACE))
    whole = read_along(name, pieces)
    bytewise = read_along(name, [(side, piece[i : i + 1]) for side, piece in pieces for i in range(len(piece))])
    if whole != bytewise:
        raise AssertionError(f"cut into bytes the calls are others: {whole} != {bytewise}")


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: check(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
