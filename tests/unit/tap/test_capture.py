"""Payload kept while it passes. Covered: what is captured equals what was sent however it is cut, over HTTP and gRPC;
references and copies; limits of one call, of the queue and of calls in flight; what is lost, why, and that nothing
stays held; operations that are not the contract's."""

import sys

import h2.config
import h2.connection
import pytest

from latentry_serving.contract.metrics import OTHER_OPERATION, CallKind, Outcome, Protocol, SampleLoss
from latentry_serving.contract.tap_config import SampleQueue, Sampling
from latentry_serving.sli.calls import Call
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.sli.samples import SampleBook
from latentry_serving.tap.capture import Body, SampleDesk
from latentry_serving.tap.http1 import Http1Observer
from latentry_serving.tap.http1_heads import parse_request_head, parse_response_head
from latentry_serving.tap.http2 import Http2Observer
from latentry_serving.tap.sampling import Sampler, TokenBucket

C, S = "client", "server"
OPERATIONS = {"digits_encode": "encode", "digits_decode": "decode"}
REQUEST_HEAD = b"POST /v2/models/digits_encode/infer HTTP/1.1\r\nHost: a\r\n"
OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Desk:
    """A desk that chooses everything of the contract, or by rates, and keeps what it hands over."""

    def __init__(self, *, rates=None, refuse=None, **sampling):
        self.book = SampleBook(["decode", "encode"])
        self.handed = []
        self.refuse = refuse
        sampler = Sampler(TokenBucket(1e9, 0.0), rates or {}, frozenset(OPERATIONS.values()), lambda: 0.5)
        self.desk = SampleDesk(Sampling(max_per_second=1e5, **sampling), sampler, self.book, self.hand_over)

    def hand_over(self, call):
        if self.refuse is None:
            self.handed.append(call)
        return self.refuse

    @property
    def lost(self):
        return {(operation, str(reason)): count for (operation, reason), count in self.book.lost.items()}


def replay(observer, pieces):
    for side, data in pieces:
        (observer.client_sent if side == C else observer.server_sent)(data, 1.0)


def payload(pieces):
    return b"".join(pieces)


HTTP_SCRIPTS = {
    "plain": [(C, REQUEST_HEAD + b"Content-Length: 5\r\n\r\nhello"), (S, OK_HEAD + b"Content-Length: 3\r\n\r\nyes")],
    "chunked": [
        (C, REQUEST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        (S, OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\ny\r\n2\r\nes\r\n0\r\n\r\n"),
    ],
    "interim": [
        (C, REQUEST_HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"),
        (S, b"HTTP/1.1 100 Continue\r\nContent-Type: text/none\r\n\r\n"),
        (C, b"hello"),
        (S, OK_HEAD + b"Content-Length: 3\r\n\r\nyes"),
    ],
}


@pytest.mark.parametrize("script", HTTP_SCRIPTS.values(), ids=HTTP_SCRIPTS)
def test_http_however_it_is_cut(script, cutting_everywhere):
    for pieces in cutting_everywhere(script):
        desk = Desk()
        replay(Http1Observer(Catalogue(OPERATIONS), desk.desk), pieces)
        (call,) = desk.handed
        assert (payload(call.request), payload(call.response)) == (b"hello", b"yes")
        assert (call.operation, call.response_head.content_type, call.bytes) == ("encode", b"application/json", 8)
        assert desk.desk.held_bytes == 8


def grpc_message(model):
    body = b"\x0a" + bytes([len(model)]) + model
    return b"\x00" + len(body).to_bytes(4) + body


def grpc_script(model, *, status="0", padded=False):
    client = h2.connection.H2Connection()
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    path = "/inference.GRPCInferenceService/ModelInfer"
    headers = [
        (":method", "POST"),
        (":path", path),
        (":scheme", "http"),
        (":authority", "a"),
        ("grpc-encoding", "gzip"),
    ]
    client.send_headers(1, headers)
    client.send_data(1, grpc_message(model), end_stream=True, pad_length=3 if padded else None)
    sent = client.data_to_send()
    server.receive_data(sent)
    server.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    server.send_data(1, b"\x00\x00\x00\x00\x03", pad_length=7 if padded else None)
    server.send_data(1, b"yes")
    server.send_headers(1, [("grpc-status", status)], end_stream=True)
    return [(C, sent), (S, server.data_to_send())]


@pytest.mark.parametrize("padded", [False, True])
def test_grpc_however_it_is_cut(padded, cutting_everywhere):
    for pieces in cutting_everywhere(grpc_script(b"digits_decode", padded=padded)):
        desk = Desk()
        replay(Http2Observer(Catalogue(OPERATIONS), desk.desk), pieces)
        (call,) = desk.handed
        assert payload(call.request) == grpc_message(b"digits_decode")
        assert payload(call.response) == b"\x00\x00\x00\x00\x03yes"
        assert (call.operation, call.request_head.grpc_encoding) == ("decode", b"gzip")


@pytest.mark.parametrize(
    ("model", "rates"), [(b"cat", {}), (b"digits_decode", {"decode": 0.5})], ids=["other model", "beyond its rate"]
)
def test_grpc_that_turns_out_to_be_no_sample_is_let_go_and_is_no_loss(model, rates):
    desk = Desk(rates=rates)
    replay(Http2Observer(Catalogue(OPERATIONS), desk.desk), grpc_script(model))
    assert (desk.handed, desk.lost, desk.desk.held_bytes) == ([], {}, 0)


def begin(desk, head=b"", *, model=b"digits_encode"):
    """A call over HTTP whose head is read."""
    request = parse_request_head(b"POST /v2/models/%s/infer HTTP/1.1\r\n%s\r\n" % (model, head))
    operation = OPERATIONS.get(model.decode(), OTHER_OPERATION)
    call = Call(Protocol.HTTP, operation, CallKind.UNARY, 1.0, head=request)
    desk.desk.call_begun(call)
    desk.desk.call_started(call)
    return call


def finish(desk, call, outcome=Outcome.OK):
    if call.sink is not None:
        call.sink.answered(parse_response_head(OK_HEAD + b"\r\n"))
    call.outcome, call.last_response_s = outcome, 2.0
    desk.desk.call_finished(call)


@pytest.mark.parametrize("outcome", [None, *(o for o in Outcome if o is not Outcome.OK)])
def test_a_call_that_does_not_end_ok_is_lost(outcome):
    desk = Desk()
    call = begin(desk)
    call.sink.request_received(b"abc", 0, 3)
    finish(desk, call, outcome)
    assert (desk.handed, desk.lost, desk.desk.held_bytes) == ([], {("encode", "call_failed"): 1}, 0)


def test_limits_of_one_call():
    desk = Desk(max_bytes=10)
    exact, beyond = begin(desk), begin(desk)
    for call in (exact, beyond):
        call.sink.request_received(b"x" * 6, 0, 6)
    exact.sink.response_received(b"x" * 4, 0, 4)
    beyond.sink.response_received(b"x" * 5, 0, 5)
    assert beyond.sink is None, "what follows is not even looked at"
    assert begin(desk, b"Content-Length: 11\r\n").sink is None
    finish(desk, exact)
    finish(desk, beyond)
    assert [call.bytes for call in desk.handed] == [10]
    assert desk.lost == {("encode", "too_large"): 2}
    assert desk.desk.held_bytes == 10
    desk.desk.release(10)
    assert desk.desk.held_bytes == 0


def test_limits_of_the_queue_in_bytes_hold_for_calls_in_flight_and_handed_over():
    desk = Desk(queue=SampleQueue(bytes=10))
    first, second = begin(desk), begin(desk)
    first.sink.request_received(b"x" * 8, 0, 8)
    finish(desk, first)
    second.sink.request_received(b"x" * 3, 0, 3)
    assert (second.sink, desk.lost, desk.desk.held_bytes) == (None, {("encode", "queue_full"): 1}, 8)
    desk.desk.release(8)
    third = begin(desk)
    third.sink.request_received(b"x" * 10, 0, 10)
    finish(desk, third)
    assert len(desk.handed) == 2


def test_of_too_many_calls_in_flight_the_oldest_gives_way():
    desk = Desk(queue=SampleQueue(calls=2))
    calls = [begin(desk) for _ in range(3)]
    assert [call.sink is None for call in calls] == [True, False, False]
    for call in calls:
        finish(desk, call)
    assert len(desk.handed) == 2
    assert desk.lost == {("encode", "queue_full"): 1}


def test_what_the_analysis_refuses_is_counted_and_held_no_longer():
    desk = Desk(refuse=SampleLoss.ANALYSIS_FAILED)
    call = begin(desk)
    call.sink.request_received(b"abc", 0, 3)
    finish(desk, call)
    assert (desk.lost, desk.desk.held_bytes) == ({("encode", "analysis_failed"): 1}, 0)


def test_other_models_and_management_are_no_samples():
    desk = Desk()
    assert begin(desk, model=b"cat").sink is None
    observer = Http1Observer(Catalogue(OPERATIONS), desk.desk)
    replay(observer, [(C, b"GET /v2/health/ready HTTP/1.1\r\n\r\n"), (S, OK_HEAD + b"Content-Length: 0\r\n\r\n")])
    assert (desk.handed, desk.lost) == ([], {})


def test_a_connection_that_becomes_opaque_loses_its_samples():
    desk = Desk()
    observer = Http1Observer(Catalogue(OPERATIONS), desk.desk)
    replay(observer, [(C, REQUEST_HEAD + b"Content-Length: 5\r\n\r\nhel")])
    observer.abandon()
    assert (desk.lost, desk.desk.held_bytes) == ({("encode", "call_failed"): 1}, 0)


def test_large_pieces_are_references_and_small_ones_keep_no_buffer_alive():
    buffer, body = bytes(100_000), Body()
    references = sys.getrefcount(buffer)
    body.add(buffer, 10, 90_000)
    assert body.pieces[0].obj is buffer
    body.add(buffer, 0, 10_000)
    for _ in range(1_000):
        body.add(buffer, 3, 4)
    assert sys.getrefcount(buffer) == references + 1
    assert [len(piece) for piece in body.pieces] == [89_990, 11_000]
