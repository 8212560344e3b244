"""Reads an HTTP/1.1 connection along: which calls it carries and how they end. Pure."""

from collections import deque

from latentry_serving.contract.metrics import OpaqueReason, Outcome, Protocol
from latentry_serving.sli.calls import Call, CallListener
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.sli.outcome import of_http_status
from latentry_serving.tap.http1_framing import MessageFramer
from latentry_serving.tap.http1_heads import (
    RequestHead,
    known_request_head,
    known_response_head,
    parse_request_head,
    parse_response_head,
)
from latentry_serving.tap.observation import SightLost, malformed, too_large

MAX_PIPELINED = 1_000
_NO_CONTENT = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101
_BODIES_NOT_AS_ANNOUNCED = frozenset({b"HEAD", b"CONNECT"})


class _Exchange:
    """A request and its answer."""

    __slots__ = ("answer", "call", "method", "request_ended")

    def __init__(self, call: Call, method: bytes) -> None:
        self.call = call
        self.method = method
        self.request_ended = False
        self.answer: Outcome | None = None
        """What the answer says, once that is complete."""


class Http1Observer:
    """Matches answers to requests in order, as RFC 9112 section 9.3.2 has it."""

    def __init__(self, catalogue: Catalogue, listener: CallListener) -> None:
        self._listener = listener
        self._awaiting: deque[_Exchange] = deque()
        """Requests whose answer is not complete, oldest first."""
        self._requests = _Requests(self._awaiting, catalogue, listener)
        self._responses = _Responses(self._awaiting, listener)
        self._from_client = MessageFramer(self._requests)
        self._from_server = MessageFramer(self._responses)
        self.client_sent = self._from_client.feed
        self.server_sent = self._from_server.feed
        self._broken: Outcome | None = None
        """Outcome of calls that do not complete, once a side is gone."""

    @property
    def idle(self) -> bool:
        return not self._awaiting and self._from_client.between_messages

    @property
    def movable(self) -> bool:
        return (
            self.idle
            and self._from_server.between_messages
            and self._requests.kept
            and self._responses.kept
            and not self._responses.owes_stray_bytes
            and self._broken is None
        )

    @property
    def answer_is_next(self) -> bool:
        return (
            len(self._awaiting) == 1
            and self._from_server.between_messages
            and self._requests.kept
            and not self._responses.owes_stray_bytes
        )

    def take_back(self) -> bytes | None:
        return b"" if self.movable else None  # what was said is over

    def goodbye(self, *, final: bool) -> bytes:
        return b""

    def client_gone(self, now_s: float) -> None:
        self._broken = self._broken or Outcome.CANCELLED
        self._responses.client_ended = True

    def server_gone(self, now_s: float, *, in_order: bool) -> None:
        if in_order:
            self._from_server.end(now_s)
        self._broken = self._broken or Outcome.RESET
        self._finish_all(self._broken, now_s)

    def closed(self, now_s: float) -> None:
        self._finish_all(self._broken or Outcome.RESET, now_s)

    def abandon(self) -> None:
        self._finish_all(None, None)

    def _finish_all(self, outcome: Outcome | None, now_s: float | None) -> None:
        open_exchanges = list(self._awaiting)
        self._awaiting.clear()
        sending = self._requests.sending
        if sending is not None and sending not in open_exchanges:
            open_exchanges.append(sending)
        self._requests.sending = None
        for exchange in open_exchanges:
            call = exchange.call
            if exchange.answer is not None:
                call.outcome = exchange.answer
            else:
                call.outcome, call.last_response_s = outcome, now_s
            self._listener.call_finished(call)


class _Requests:
    """What the client sends."""

    def __init__(self, awaiting: deque[_Exchange], catalogue: Catalogue, listener: CallListener) -> None:
        self._awaiting = awaiting
        self._catalogue = catalogue
        self._listener = listener
        self._started_s = 0.0
        self.sending: _Exchange | None = None
        """The request whose body is on its way."""
        self.kept = True
        """No request so far asked for the end of the connection."""

    def message_started(self, first_byte: int, now_s: float) -> int:
        if not 0x41 <= first_byte <= 0x5A:  # every method begins with an upper-case letter, a TLS hello does not
            raise SightLost(OpaqueReason.UNKNOWN_PROTOCOL, "not HTTP/1")
        self._started_s = now_s
        return 0

    def head_complete(self, head: bytes) -> int:
        if len(self._awaiting) >= MAX_PIPELINED:
            raise too_large(f"more than {MAX_PIPELINED} pipelined requests")
        request = parse_request_head(head)
        self.sending = self._begin(request, self._started_s)
        return request.body_bytes

    def whole_message(self, data: bytes, body_at: int, now_s: float) -> bool:
        request = known_request_head(data[:body_at])
        size = len(data) - body_at
        if request is None or request.body_bytes != size or len(self._awaiting) >= MAX_PIPELINED:
            return False
        exchange = self._begin(request, now_s)
        exchange.request_ended = True
        call = exchange.call
        call.request_bytes = size
        if call.sink is not None and size:
            call.sink.request_received(data, body_at, len(data))
        return True

    def _begin(self, request: RequestHead, started_s: float) -> _Exchange:
        if not request.keeps:
            self.kept = False
        operation, kind = self._catalogue.http(request.method, request.path)
        call = Call(Protocol.HTTP, operation, kind, started_s, head=request, trace=request.trace)
        exchange = _Exchange(call, request.method)
        self._awaiting.append(exchange)
        self._listener.call_begun(call)
        self._listener.call_started(call)
        return exchange

    def body_received(self, data: bytes, start: int, end: int) -> None:
        if self.sending is not None:
            call = self.sending.call
            call.request_bytes += end - start
            if call.sink is not None:
                call.sink.request_received(data, start, end)

    def message_complete(self, now_s: float) -> None:
        exchange, self.sending = self.sending, None
        if exchange is None:  # the answer's side is gone, the call already counted
            return
        exchange.request_ended = True
        if exchange.answer is not None:
            exchange.call.outcome = exchange.answer
            self._listener.call_finished(exchange.call)


class _Responses:
    """What Triton sends."""

    def __init__(self, awaiting: deque[_Exchange], listener: CallListener) -> None:
        self._awaiting = awaiting
        self._listener = listener
        self._started_s = 0.0
        self._status = 0
        self.client_ended = False
        """A client that ends its side while an answer is due has gone, as nginx reads it too: Triton's answer, which
        may still come, reaches nobody."""
        self.kept = True
        """No answer so far announced the end of the connection."""
        self._stray_bytes = 0
        """Of the body that Triton (seen in 2.51) sends with some answers to HEAD, against RFC 9110, 9.3.2."""

    @property
    def owes_stray_bytes(self) -> bool:
        return self._stray_bytes > 0

    def message_started(self, first_byte: int, now_s: float) -> int:
        stray, self._stray_bytes = self._stray_bytes, 0
        if first_byte != 0x48:  # "HTTP/"
            if stray:
                return stray
            raise malformed("not an HTTP/1 answer")
        self._started_s = now_s
        return 0

    def head_complete(self, head: bytes) -> int:
        if not self._awaiting:
            raise malformed("an answer without a request")
        answer = parse_response_head(head)
        self._status, body = answer.status, answer.body_bytes
        self.kept = self.kept and answer.keeps
        exchange = self._awaiting[0]
        if self._status == _SWITCHING_PROTOCOLS or (exchange.method == b"CONNECT" and self._status < 300):
            raise SightLost(OpaqueReason.UPGRADE, "the connection changes its protocol")
        if self._status < 200:
            return 0
        exchange.call.first_response_s = self._started_s
        if exchange.call.sink is not None:
            exchange.call.sink.answered(answer)
        if exchange.method == b"HEAD":
            self._stray_bytes = max(body, 0)
            return 0
        return 0 if self._status in _NO_CONTENT else body

    def whole_message(self, data: bytes, body_at: int, now_s: float) -> bool:
        answer = known_response_head(data[:body_at])
        size = len(data) - body_at
        if answer is None or answer.body_bytes != size or not self._awaiting or not answer.keeps:
            return False
        exchange = self._awaiting[0]
        if answer.status < 200 or answer.status in _NO_CONTENT or exchange.method in _BODIES_NOT_AS_ANNOUNCED:
            return False
        self._status, self._stray_bytes = answer.status, 0
        call = exchange.call
        call.first_response_s = now_s
        call.response_bytes = size
        if call.sink is not None:
            call.sink.answered(answer)
            if size and call.sink is not None:
                call.sink.response_received(data, body_at, len(data))
        self.message_complete(now_s)
        return True

    def body_received(self, data: bytes, start: int, end: int) -> None:
        if self._awaiting:
            call = self._awaiting[0].call
            call.response_bytes += end - start
            if call.sink is not None:
                call.sink.response_received(data, start, end)

    def message_complete(self, now_s: float) -> None:
        if self._status < 200:  # interim: the answer is still to come
            return
        exchange = self._awaiting.popleft()
        exchange.answer = Outcome.CANCELLED if self.client_ended else of_http_status(self._status)
        exchange.call.last_response_s, exchange.call.status = now_s, self._status
        if exchange.request_ended:
            exchange.call.outcome = exchange.answer
            self._listener.call_finished(exchange.call)
