"""Keeps the payload of sampled calls while it passes, in bounded memory. Pure.

What is kept is the forwarder's own buffers, by reference. Where a piece is small, or a small part of its buffer, it is
copied: a reference would keep the whole buffer alive. So at most twice the counted bytes are held.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latentry_serving.contract.metrics import (
    MANAGEMENT_OPERATION,
    CallKind,
    Outcome,
    Protocol,
    SampleLoss,
)
from latentry_serving.contract.tap_config import Sampling
from latentry_serving.sli.calls import Call, MessageHead
from latentry_serving.sli.samples import SampleBook
from latentry_serving.tap.sampling import Sampler, Ticket

_SMALL_BYTES = 4_096

Piece = bytes | bytearray | memoryview


class Body:
    """The payload of one direction."""

    __slots__ = ("head", "pieces")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.head: MessageHead | None = None

    def add(self, data: bytes, start: int, end: int) -> None:
        """Keeps ``data[start:end]``."""
        size = end - start
        if size >= _SMALL_BYTES and 2 * size >= len(data):
            self.pieces.append(memoryview(data)[start:end])
            return
        last = self.pieces[-1] if self.pieces else None
        if isinstance(last, bytearray):
            last += memoryview(data)[start:end]
        else:
            self.pieces.append(bytearray(memoryview(data)[start:end]))


@dataclass(frozen=True, slots=True)
class CapturedCall:
    """A sampled call that ended ok.

    Attributes:
        ended_s: monotonic time of its last byte.
        bytes: what its pieces count.
    """

    protocol: Protocol
    operation: str
    kind: CallKind
    ended_s: float
    bytes: int
    request: Sequence[Piece]
    response: Sequence[Piece]
    request_head: MessageHead
    response_head: MessageHead


class Capture:
    """The sink of one sampled call."""

    __slots__ = ("_desk", "bytes", "call", "request", "response", "ticket")

    def __init__(self, desk: "SampleDesk", call: Call, ticket: Ticket | None) -> None:
        self._desk = desk
        self.call = call
        self.ticket = ticket
        """Present until the operation is known."""
        self.bytes = 0
        self.request = Body()
        self.response = Body()
        self.request.head = call.head

    def request_received(self, data: bytes, start: int, end: int) -> None:
        if self._desk.admit(self, end - start):
            self.request.add(data, start, end)

    def response_received(self, data: bytes, start: int, end: int) -> None:
        if self._desk.admit(self, end - start):
            self.response.add(data, start, end)

    def answered(self, head: MessageHead) -> None:
        self.response.head = head


class SampleDesk:
    """Listens to calls, chooses samples, and hands those that end ok on. Every other one is counted with its reason."""

    def __init__(
        self,
        sampling: Sampling,
        sampler: Sampler,
        book: SampleBook,
        hand_over: Callable[[CapturedCall], SampleLoss | None],
    ) -> None:
        """
        Args:
            hand_over: takes a captured call, or says why not. What it took is given back by `release`.
        """
        self._sampling = sampling
        self._sampler = sampler
        self._bucket = sampler.bucket
        self._book = book
        self._hand_over = hand_over
        self._in_flight: dict[Call, Capture] = {}
        """Oldest first."""
        self.held_bytes = 0
        """Of calls in flight and of those handed over."""

    def call_begun(self, call: Call) -> None:
        """Chooses, before the body arrives."""
        if call.started_s < self._bucket.next_s:
            return
        head = call.head
        if head is None or call.operation == MANAGEMENT_OPERATION:
            return
        ticket = None
        if call.protocol is Protocol.GRPC:
            ticket = self._sampler.choose_unknown(call.started_s)
            if ticket is None:
                return
        elif not self._sampler.choose(call.operation, call.started_s):
            return
        capture = Capture(self, call, ticket)
        if len(self._in_flight) >= self._sampling.queue.calls:  # streams may last for ever: the oldest gives way
            self._lose(next(iter(self._in_flight.values())), SampleLoss.QUEUE_FULL)
        self._in_flight[call] = capture
        call.sink = capture
        if head.body_bytes > self._sampling.max_bytes:
            self._lose(capture, SampleLoss.TOO_LARGE)

    def call_started(self, call: Call) -> None:
        """The operation is known: a call of another than the contract's, or beyond its rate, is let go."""
        capture = self._in_flight.get(call)
        if capture is not None and capture.ticket is not None:
            if not self._sampler.confirm(capture.ticket, call.operation):
                self._let_go(capture)
                self.held_bytes -= capture.bytes
            capture.ticket = None

    def call_finished(self, call: Call) -> None:
        """Hands the call over when it ended ok."""
        capture = self._in_flight.get(call)
        if capture is None:
            return
        request, response = capture.request, capture.response
        if call.outcome is not Outcome.OK or request.head is None or response.head is None:
            self._lose(capture, SampleLoss.CALL_FAILED)
            return
        self._let_go(capture)
        captured = CapturedCall(
            protocol=call.protocol,
            operation=call.operation,
            kind=call.kind,
            ended_s=call.last_response_s or call.started_s,
            bytes=capture.bytes,
            request=request.pieces,
            response=response.pieces,
            request_head=request.head,
            response_head=response.head,
        )
        loss = self._hand_over(captured)
        if loss is not None:
            self._book.lost[call.operation, loss] += 1
            self.release(captured.bytes)

    def admit(self, capture: Capture, size: int) -> bool:
        """Whether a capture may keep ``size`` bytes more; if not, it is lost."""
        if capture.bytes + size > self._sampling.max_bytes:
            self._lose(capture, SampleLoss.TOO_LARGE)
            return False
        if self.held_bytes + size > self._sampling.queue.bytes:
            self._lose(capture, SampleLoss.QUEUE_FULL)
            return False
        capture.bytes += size
        self.held_bytes += size
        return True

    def release(self, size: int) -> None:
        """The bytes of a call that was handed over are held no longer."""
        self.held_bytes -= size

    def _lose(self, capture: Capture, reason: SampleLoss) -> None:
        self._let_go(capture)
        self.held_bytes -= capture.bytes
        self._book.lost[capture.call.operation, reason] += 1

    def _let_go(self, capture: Capture) -> None:
        capture.call.sink = None
        del self._in_flight[capture.call]
