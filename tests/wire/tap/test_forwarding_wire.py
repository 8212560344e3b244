"""Bytes through the tap over real sockets, with the test on both ends: equal in both directions however they are cut,
ends and resets mirrored, slow readers held back, refusals, and what is counted of all that."""

import contextlib
import hashlib
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INFER = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
PIECES = st.one_of(
    st.sampled_from([INFER, OK, b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x" * 70_000]), st.binary(max_size=300)
)


@given(sent=st.lists(st.tuples(st.booleans(), PIECES), max_size=12), cut=st.integers(1, 50_000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("name", ["http", "grpc"])
def test_what_arrives_is_what_was_sent(name, sent, cut, shared_relay, wire):
    with shared_relay.pair(name) as (client, server):
        expected = {True: b"", False: b""}
        for by_client, data in sent:
            for start in range(0, len(data), cut):
                (client if by_client else server).sendall(data[start : start + cut])
            expected[by_client] += data
        assert wire.exactly(server, len(expected[True])) == expected[True]
        assert wire.exactly(client, len(expected[False])) == expected[False]
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close_is_mirrored_and_the_other_direction_goes_on(first, shared_relay, wire):
    with shared_relay.pair() as (client, server):
        ends = (client, server) if first == "client" else (server, client)
        ends[0].sendall(b"last words")
        ends[0].shutdown(socket.SHUT_WR)
        assert wire.exactly(ends[1], 100) == b"last words"
        for _ in range(3):
            ends[1].sendall(b"x" * 100_000)
            assert wire.exactly(ends[0], 100_000) == b"x" * 100_000
        ends[1].close()
        assert ends[0].recv(1) == b""


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_reset_is_mirrored_after_what_was_sent_before(first, shared_relay, wire):
    with shared_relay.pair() as (client, server):
        ends = (client, server) if first == "client" else (server, client)
        ends[0].sendall(b"last words")
        assert wire.exactly(ends[1], 10) == b"last words"
        wire.break_off(ends[0])
        with pytest.raises(ConnectionResetError):
            ends[1].recv(1)


@pytest.mark.parametrize("reader", ["client", "server"])
def test_a_slow_reader_holds_the_sender_back_in_bounded_memory(reader, start_relay, wire):
    relay = start_relay()
    total = 96 << 20
    payload = bytes(range(256)) * 4096
    with relay.pair() as (client, server):
        reading, writing = (client, server) if reader == "client" else (server, client)
        before = relay.tap.memory_bytes()
        writing.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < total:
                sent += writing.send(payload[sent % len(payload) :])
        assert sent < total, "the sender was never held back"
        assert relay.tap.memory_bytes() - before < 8 << 20
        writing.settimeout(20)
        rest = threading.Thread(target=send_rest, args=(writing, payload, sent, total))
        rest.start()
        digest, left = hashlib.sha256(), total
        while left:
            part = reading.recv(1 << 20)
            digest.update(part)
            left -= len(part)
        rest.join()
        assert digest.digest() == hashlib.sha256(payload * (total // len(payload))).digest()
        assert relay.tap.memory_bytes() - before < 8 << 20


def send_rest(sock, payload, sent, total):
    while sent < total:
        sent += sock.send(payload[sent % len(payload) :][: total - sent])


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_no_upstream_is_a_refusal_and_counted(name, start_relay, wire):
    relay = start_relay()
    relay.upstream.listener.close()
    with pytest.raises(ConnectionResetError), relay.tap.connect(name) as client:  # refused while connecting, or after
        client.recv(1)
    wire.eventually(lambda: relay.tap.outcomes("other", name) == {"upstream_unavailable": 1})
    status, body = relay.tap.get("/readyz")
    assert status == 503
    assert b"not reachable" in body


def test_one_connection_too_many_is_refused(start_relay, wire):
    relay = start_relay(max_connections=1)
    with relay.pair() as (client, server):
        with pytest.raises(ConnectionResetError), relay.tap.connect() as second:
            second.recv(1)
        client.sendall(b"still here")
        assert wire.exactly(server, 10) == b"still here"
        assert relay.tap.slis().refused_connections["connection_limit"] == 1
    wire.eventually(lambda: relay.tap.slis().connections["http"] == 0)
    with relay.pair() as (client, server):
        client.sendall(b"next")
        assert wire.exactly(server, 4) == b"next"


@pytest.mark.parametrize(
    ("leave", "outcome"),
    [
        (lambda client, server, wire: client.close(), "cancelled"),
        (lambda client, server, wire: wire.break_off(client), "cancelled"),
        (lambda client, server, wire: server.close(), "reset"),
        (lambda client, server, wire: wire.break_off(server), "reset"),
    ],
    ids=["client ends", "client resets", "server ends", "server resets"],
)
def test_a_call_broken_midway_is_counted_as_who_broke_it(leave, outcome, start_relay, wire):
    relay = start_relay()
    with relay.pair() as (client, server):
        client.sendall(INFER)
        assert wire.exactly(server, len(INFER)) == INFER
        wire.eventually(lambda: relay.tap.slis().inference.in_flight == 1)
        leave(client, server, wire)
        for end in (client, server):  # whoever is left sees it, and leaves
            if end.fileno() >= 0:
                with contextlib.suppress(ConnectionResetError):
                    assert end.recv(1) == b""
                end.close()
    wire.eventually(lambda: relay.tap.outcomes("encode", "http") == {outcome: 1})
    assert relay.tap.slis().inference.in_flight == 0


def test_an_opaque_connection_flows_on_and_is_counted(start_relay, wire):
    relay = start_relay()
    with relay.pair() as (client, server):
        client.sendall(b"\x16\x03\x01 not HTTP")
        assert wire.exactly(server, 12) == b"\x16\x03\x01 not HTTP"
        wire.eventually(lambda: relay.tap.slis().opaque_connections["unknown_protocol"] == 1)
        server.sendall(b"nor this")
        assert wire.exactly(client, 8) == b"nor this"
