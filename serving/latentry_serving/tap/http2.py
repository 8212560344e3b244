"""Reads an HTTP/2 connection along: which gRPC calls it carries and how they end. Pure."""

from functools import partial

from latentry_serving.contract.metrics import MANAGEMENT_OPERATION, OTHER_OPERATION, CallKind, Outcome, Protocol
from latentry_serving.sli import outcome as outcomes
from latentry_serving.sli.calls import Call, CallListener
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.tap.grpc_message import ModelNameReader, plain_model_name
from latentry_serving.tap.http2_framing import CLIENT_PREFACE, LARGEST_STREAM, FrameReader, goaway
from latentry_serving.tap.http2_headers import Fields, HeaderBlocks
from latentry_serving.tap.observation import malformed, too_large

MAX_STREAMS = 10_000
_MAX_OPENING_BYTES = 16_384
"""Of what clients say before their first call; gRPC's take 50 to 300."""
_MAX_CODE_DIGITS = 9


class _Stream:
    """A call and how far it is."""

    __slots__ = (
        "announced",
        "answer",
        "call",
        "grpc_status",
        "http_status",
        "name_reader",
        "request_ended",
        "timeout_s",
        "unnamed",
    )

    def __init__(self, call: Call, timeout_s: float | None, *, unnamed: bool) -> None:
        self.call = call
        self.timeout_s = timeout_s
        self.unnamed = unnamed
        """The model is still to be read from the message."""
        self.name_reader: ModelNameReader | None = None
        self.announced = False
        self.request_ended = False
        self.http_status = 0
        self.grpc_status = b""
        self.answer: Outcome | None = None
        """What the answer says, once that is complete."""


class _Streams:
    """The open streams of a connection."""

    def __init__(self, catalogue: Catalogue, listener: CallListener) -> None:
        self.open: dict[int, _Stream] = {}
        self._catalogue = catalogue
        self._listener = listener
        self.last = 0
        """The highest number a client has used."""

    def start(self, number: int, fields: Fields, begun_s: float) -> _Stream | None:
        """Opens the stream a client's header block begins; None for a block that came after its stream's end."""
        if number <= self.last:
            return None
        if number % 2 == 0:
            raise malformed("a client's stream with an even number")
        if len(self.open) >= MAX_STREAMS:
            raise too_large(f"more than {MAX_STREAMS} open streams")
        self.last = number
        kind = self._catalogue.grpc(fields.path)
        timeout_s = outcomes.grpc_timeout_seconds(fields.grpc_timeout) if fields.grpc_timeout else None
        if kind is None:
            call = Call(Protocol.GRPC, MANAGEMENT_OPERATION, CallKind.UNARY, begun_s, head=fields, trace=fields.trace)
            stream = _Stream(call, timeout_s, unnamed=False)
            self._listener.call_begun(call)
            self._announce(stream)
        else:
            call = Call(Protocol.GRPC, OTHER_OPERATION, kind, begun_s, head=fields, trace=fields.trace)
            stream = _Stream(call, timeout_s, unnamed=True)
            self._listener.call_begun(call)
        self.open[number] = stream
        return stream

    def name_read(self, stream: _Stream, name: bytes | None) -> None:
        """The call's model is decided."""
        stream.unnamed, stream.name_reader = False, None
        if name is not None:
            stream.call.operation = self._catalogue.operation(name)
        self._announce(stream)

    def finish(self, number: int, outcome: Outcome | None, now_s: float | None) -> None:
        """Ends the call; a complete answer has the last word on the outcome."""
        stream = self.open.pop(number)
        if not stream.announced:
            self._announce(stream)
        call = stream.call
        if stream.answer is not None:
            call.outcome = stream.answer
        else:
            call.outcome, call.last_response_s = outcome, now_s
        self._listener.call_finished(call)

    def broken_by_client(self, number: int, now_s: float) -> None:
        """The client gave the call up."""
        stream = self.open[number]
        elapsed_s = now_s - stream.call.started_s
        self.finish(number, outcomes.of_client_reset(elapsed_s, stream.timeout_s), now_s)

    def _announce(self, stream: _Stream) -> None:
        if not stream.announced:
            stream.announced = True
            self._listener.call_started(stream.call)


class Http2Observer:
    """Follows both directions; source of the call model: gRPC over HTTP/2, RFC 9113."""

    def __init__(self, catalogue: Catalogue, listener: CallListener) -> None:
        self._new_streams = partial(_Streams, catalogue, listener)
        self._begin()

    def _begin(self) -> None:
        self._streams = self._new_streams()
        client_blocks, server_blocks = HeaderBlocks(), HeaderBlocks()
        self._from_client = FrameReader(
            _FromClient(self._streams, client_blocks, server_blocks), preface=CLIENT_PREFACE
        )
        self._server = _FromServer(self._streams, server_blocks, client_blocks)
        self._from_server = FrameReader(self._server)
        self.client_sent, self.server_sent = self._client_opens, self._server_opens
        self._opening = bytearray()
        """What the client said before its first call and Triton's first word."""
        self._opens = True
        self._client_first: bool | None = None
        """Which side went first, once one has."""

    @property
    def idle(self) -> bool:
        return not self._streams.open and self._from_client.between_frames

    @property
    def movable(self) -> bool:
        return False  # the header tables of both directions cannot move

    @property
    def answer_is_next(self) -> bool:
        return False

    def goodbye(self, *, final: bool) -> bytes:
        if not self._from_server.greeted or not self._from_server.between_frames:
            return b""
        said = self._server.last_stream_said  # which may not grow: RFC 9113, 6.8
        if final:
            return goaway(self._streams.last if said is None else min(self._streams.last, said))
        return goaway(LARGEST_STREAM) if said is None else b""

    def take_back(self) -> bytes | None:
        if not self._opens:
            return None
        said = bytes(self._opening)
        self._begin()
        return said

    def _client_opens(self, data: bytes, now_s: float) -> None:
        self._from_client.feed(data, now_s)
        self._opening += data
        if self._streams.last or len(self._opening) > _MAX_OPENING_BYTES:
            self._opened()

    def _server_opens(self, data: bytes, now_s: float) -> None:
        self._opened()
        self._from_server.feed(data, now_s)

    def _opened(self) -> None:
        self.client_sent, self.server_sent = self._from_client.feed, self._from_server.feed
        self._opens = False
        self._opening.clear()

    def client_gone(self, now_s: float) -> None:
        if self._client_first is None:
            self._client_first = True

    def server_gone(self, now_s: float, *, in_order: bool) -> None:
        if self._client_first is None:
            self._client_first = False
        self.closed(now_s)

    def closed(self, now_s: float) -> None:
        for number in list(self._streams.open):
            if self._client_first:
                self._streams.broken_by_client(number, now_s)
            else:
                self._streams.finish(number, Outcome.RESET, now_s)

    def abandon(self) -> None:
        for number in list(self._streams.open):
            self._streams.finish(number, None, None)


class _FromClient:
    """What the client sends."""

    def __init__(self, streams: _Streams, blocks: HeaderBlocks, peer_blocks: HeaderBlocks) -> None:
        self._streams = streams
        self._blocks = blocks
        self._peer_blocks = peer_blocks

    def headers_received(self, stream: int, block: bytes, *, ends: bool, begun_s: float, now_s: float) -> None:
        fields = self._blocks.decode(block)
        if stream not in self._streams.open and self._streams.start(stream, fields, begun_s) is None:
            return
        if ends:
            self.stream_ended(stream, now_s)

    def data_received(self, stream: int, data: bytes, start: int, end: int, now_s: float) -> None:
        known = self._streams.open.get(stream)
        if known is None:
            return
        call = known.call
        call.request_bytes += end - start
        if known.unnamed:
            self._read_name(known, data, start, end)
        if call.sink is not None:
            call.sink.request_received(data, start, end)

    def _read_name(self, stream: _Stream, data: bytes, start: int, end: int) -> None:
        reader = stream.name_reader
        if reader is None:
            name = plain_model_name(data, start, end)
            if name is not None:
                self._streams.name_read(stream, name)
                return
            encoding = stream.call.head.grpc_encoding if stream.call.head is not None else b""
            reader = stream.name_reader = ModelNameReader(encoding)
        if reader.feed(data, start, end):
            self._streams.name_read(stream, reader.name)

    def stream_ended(self, stream: int, now_s: float) -> None:
        known = self._streams.open.get(stream)
        if known is None:
            return
        known.request_ended = True
        if known.unnamed:
            self._streams.name_read(known, None)
        if known.answer is not None:
            self._streams.finish(stream, known.answer, None)

    def stream_reset(self, stream: int, now_s: float) -> None:
        if stream in self._streams.open:
            self._streams.broken_by_client(stream, now_s)

    def table_size_allowed(self, size: int) -> None:
        self._peer_blocks.allow_table_size(size)

    def going_away(self, last_stream: int, now_s: float) -> None:
        """A client going away still wants the answers it asked for."""


class _FromServer:
    """What Triton sends."""

    def __init__(self, streams: _Streams, blocks: HeaderBlocks, peer_blocks: HeaderBlocks) -> None:
        self._streams = streams
        self._blocks = blocks
        self._peer_blocks = peer_blocks
        self.last_stream_said: int | None = None
        """In a GOAWAY of its own."""

    def headers_received(self, stream: int, block: bytes, *, ends: bool, begun_s: float, now_s: float) -> None:
        fields = self._blocks.decode(block)
        known = self._streams.open.get(stream)
        if known is None:  # the client gave it up before
            return
        if fields.status.startswith(b"1"):  # interim: the answer is still to come
            return
        call = known.call
        if call.first_response_s is None:
            call.first_response_s = begun_s
            if call.sink is not None:
                call.sink.answered(fields)
            known.http_status = _code(fields.status) or 0
        known.grpc_status = fields.grpc_status or known.grpc_status
        if ends:
            self.stream_ended(stream, now_s)

    def data_received(self, stream: int, data: bytes, start: int, end: int, now_s: float) -> None:
        known = self._streams.open.get(stream)
        if known is not None:
            call = known.call
            call.response_bytes += end - start
            if call.sink is not None:
                call.sink.response_received(data, start, end)

    def stream_ended(self, stream: int, now_s: float) -> None:
        known = self._streams.open.get(stream)
        if known is None:
            return
        known.call.last_response_s = now_s
        status = _code(known.grpc_status)
        if status is None:
            answer = outcomes.of_missing_grpc_status(known.http_status)
        else:
            known.call.status, answer = status, outcomes.of_grpc_status(status)
        known.answer = answer
        if known.request_ended:
            self._streams.finish(stream, answer, None)

    def stream_reset(self, stream: int, now_s: float) -> None:
        if stream in self._streams.open:
            self._streams.finish(stream, Outcome.RESET, now_s)

    def table_size_allowed(self, size: int) -> None:
        self._peer_blocks.allow_table_size(size)

    def going_away(self, last_stream: int, now_s: float) -> None:
        self.last_stream_said = last_stream
        for number in [n for n in self._streams.open if n > last_stream]:
            self._streams.finish(number, Outcome.RESET, now_s)


def _code(value: bytes) -> int | None:
    """A status code; None for what is none, or longer than any (`int` refuses thousands of digits)."""
    return int(value) if value.isdigit() and len(value) <= _MAX_CODE_DIGITS else None
