"""Triton dies behind a tap beside which another one stands: its clients wait, and are taken over.

Covered: clients of both protocols that come after the death; keep-alive connections between two calls; calls in flight,
which are broken and never sent again; waiting that ends by itself, on command and with the tap; Triton that comes back;
Triton that ends a connection but lives. A tap alone: test_forwarding_wire.py and test_faults_wire.py.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from latentry_serving.tap.control_client import ask as ask_tap

INFER = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
LARGE = INFER.replace(b": 5", b": 400000").replace(b"hello", bytes(range(250)) * 1_600)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
"""With a header table of no bytes."""
OPENING = PREFACE + SETTINGS
BEGUN = bytes([0, 0, 1, 1, 4, 0, 0, 0, 1]) + b"\x83"
"""A call's HEADERS."""
LONG = 600.0
WAIT_S = 20.0


class Beside:
    """Two taps with the same listening sockets, each in front of a server that the test plays; the first accepts."""

    def __init__(self, start_tap, folder) -> None:
        self.doors = {name: socket.create_server(("127.0.0.1", 0)) for name in ("http", "grpc")}
        self.servers = [self.listening() for _ in range(2)]
        self.paths = [str(folder / f"{number}.sock") for number in range(2)]
        http, grpc = (door.fileno() for door in self.doors.values())
        self.taps = [
            start_tap(
                pass_fds=(http, grpc), http_fd=http, grpc_fd=grpc, accepting=str(number == 0).lower(), control=path,
                upstream_http=at(server), upstream_grpc=at(server), operations="{wide_encode: encode}",
            )
            for number, (path, server) in enumerate(zip(self.paths, self.servers, strict=True))
        ]  # fmt: skip

    @staticmethod
    def listening(port: int = 0) -> socket.socket:
        server = socket.create_server(("127.0.0.1", port))
        server.settimeout(WAIT_S)
        return server

    def accept(self, number: int) -> socket.socket:
        sock, _ = self.servers[number].accept()
        sock.settimeout(WAIT_S)
        return sock

    def connect(self, name: str = "http") -> socket.socket:
        return socket.create_connection(self.doors[name].getsockname(), timeout=WAIT_S)

    def hold(self, seconds: float = LONG) -> dict:
        return asyncio.run(ask_tap(self.paths[0], "hold", seconds=seconds))

    def waiting(self) -> int:
        return asyncio.run(ask_tap(self.paths[0], "status"))["waiting"]

    def hand_over(self) -> dict:
        return asyncio.run(ask_tap(self.paths[0], "hand over", to=self.paths[1], seconds=10.0))

    def close(self) -> None:
        for sock in (*self.doors.values(), *self.servers):
            sock.close()


@pytest.fixture
def beside(start_tap, tmp_path) -> Iterator[Beside]:
    made = Beside(start_tap, tmp_path)
    yield made
    made.close()


def at(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def is_broken(client: socket.socket) -> bool:
    """By a reset, not in order."""
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b"", "nobody answers"
        return False
    return True


def is_refused(beside: Beside) -> bool:
    """Whether a new client is, while it connects or after."""
    try:
        with beside.connect() as client:
            return is_broken(client)
    except ConnectionResetError:
        return True


def dies_and_breaks(beside: Beside, wire, server: socket.socket, client: socket.socket) -> None:
    """Triton dies, and its client is broken, not handed over."""
    beside.servers[0].close()
    wire.break_off(server)
    assert is_broken(client)
    assert beside.hand_over()["moved"] == 0


def dies_and_is_back(beside: Beside, wire, server: socket.socket, *, in_order: bool) -> None:
    """Another Triton listens where one died, before its client is told to wait no longer."""
    port = beside.servers[0].getsockname()[1]
    beside.servers[0].close()
    server.close() if in_order else wire.break_off(server)
    wire.eventually(lambda: beside.waiting() == 1)
    beside.servers[0] = beside.listening(port)
    beside.hold(0.0)


def after_one_call(beside: Beside, wire) -> tuple[socket.socket, socket.socket]:
    """A keep-alive connection that had an answer: client, server."""
    client, server = beside.connect(), beside.accept(0)
    client.sendall(INFER)
    assert wire.exactly(server, len(INFER)) == INFER
    server.sendall(OK)
    assert wire.exactly(client, len(OK)) == OK
    return client, server


@pytest.mark.parametrize(("name", "said"), [("http", INFER), ("http", LARGE), ("grpc", PREFACE)])
def test_who_comes_after_the_death_waits_and_is_served_by_the_other(name, said, beside, wire):
    beside.hold()
    beside.servers[0].close()
    with beside.connect(name) as client, beside.connect(name) as silent:
        client.sendall(said)
        wire.eventually(lambda: beside.waiting() == 2)
        assert beside.hand_over() == {"moved": 2, "ended": 0, "left": 0, "problem": ""}
        heard = [beside.accept(1), beside.accept(1)]
        silent.sendall(said)
        assert [wire.exactly(server, len(said)) for server in heard] == [said, said]
        for server in heard:
            server.close()
    assert beside.taps[0].slis().refused_connections.get("upstream_unavailable", 0) == 0
    assert beside.taps[0].outcomes("other", name) == {}


@pytest.mark.parametrize("end", ["in order", "reset"])
def test_between_two_calls_a_client_does_not_notice(end, beside, wire):
    beside.hold()
    client, server = after_one_call(beside, wire)
    beside.servers[0].close()
    server.close() if end == "in order" else wire.break_off(server)
    wire.eventually(lambda: beside.waiting() == 1)
    client.sendall(INFER)
    assert beside.hand_over()["moved"] == 1
    with client, beside.accept(1) as other:
        assert wire.exactly(other, len(INFER)) == INFER
        other.sendall(OK)
        assert wire.exactly(client, len(OK)) == OK
    wire.eventually(lambda: beside.taps[1].outcomes("encode", "http") == {"ok": 1})
    assert beside.taps[0].outcomes("encode", "http") == {"ok": 1}


@pytest.mark.parametrize("end", ["in order", "reset"])
@pytest.mark.parametrize("said", [b"", PREFACE[:5], OPENING, OPENING + BEGUN[:-1]])
def test_a_grpc_client_whose_triton_never_said_a_word_does_not_notice(said, end, beside, wire):
    """The kernel of a Triton that is being torn down still takes connections."""
    beside.hold()
    with beside.connect("grpc") as client, beside.accept(0) as server:
        client.sendall(said)
        assert wire.exactly(server, len(said)) == said
        beside.servers[0].close()
        server.close() if end == "in order" else wire.break_off(server)
        wire.eventually(lambda: beside.waiting() == 1)
        client.sendall(b"more")
        assert beside.hand_over()["moved"] == 1
        with beside.accept(1) as other:
            assert wire.exactly(other, len(said + b"more")) == said + b"more"
            other.sendall(SETTINGS)
            assert wire.exactly(client, len(SETTINGS)) == SETTINGS
    assert beside.taps[0].outcomes("other", "grpc") == {}


@pytest.mark.parametrize(("said", "answered"), [(OPENING, SETTINGS[:1]), (OPENING + BEGUN, b"")])
def test_a_grpc_client_that_was_answered_or_asked_for_something_is_broken(said, answered, beside, wire):
    beside.hold()
    client, server = beside.connect("grpc"), beside.accept(0)
    client.sendall(said)
    assert wire.exactly(server, len(said)) == said
    server.sendall(answered)
    assert wire.exactly(client, len(answered)) == answered
    dies_and_breaks(beside, wire, server, client)


def test_triton_that_is_back_in_time_hears_what_a_grpc_client_said_to_the_one_before(beside, wire):
    beside.hold()
    client, server = beside.connect("grpc"), beside.accept(0)
    client.sendall(OPENING)
    assert wire.exactly(server, len(OPENING)) == OPENING
    dies_and_is_back(beside, wire, server, in_order=False)
    with client, beside.accept(0) as again:
        assert wire.exactly(again, len(OPENING)) == OPENING
        again.sendall(SETTINGS)
        assert wire.exactly(client, len(SETTINGS)) == SETTINGS
        client.sendall(BEGUN)
        assert wire.exactly(again, len(BEGUN)) == BEGUN
        client.close()
        assert again.recv(1) == b""
    wire.eventually(lambda: beside.taps[0].outcomes("management", "grpc") == {"cancelled": 1})


@pytest.mark.parametrize("sent", [INFER, INFER[:-1]])
def test_a_call_in_flight_is_broken_and_never_sent_again(sent, beside, wire):
    beside.hold()
    client, server = after_one_call(beside, wire)
    client.sendall(sent)
    assert wire.exactly(server, len(sent)) == sent
    dies_and_breaks(beside, wire, server, client)
    beside.servers[1].settimeout(0)
    with pytest.raises(BlockingIOError):
        beside.servers[1].accept()
    assert beside.taps[0].outcomes("encode", "http") == {"ok": 1, "reset": 1}


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_triton_that_ends_a_connection_and_lives_ends_it_for_the_client(name, beside, wire):
    beside.hold()
    client, server = after_one_call(beside, wire) if name == "http" else (beside.connect(name), beside.accept(0))
    server.close()
    assert client.recv(1) == b""
    client.close()
    wire.eventually(lambda: beside.taps[0].slis().connections[name] == 0)
    assert beside.taps[0].outcomes("other", "http") == {}


@pytest.mark.parametrize("how", ["the time is over", "on command", "the tap stops"])
def test_who_waited_for_nothing_is_refused_and_counted(how, beside, wire):
    beside.hold(0.3 if how == "the time is over" else LONG)
    idle, server = after_one_call(beside, wire)
    beside.servers[0].close()
    server.close()
    client = beside.connect()
    if how != "the time is over":
        wire.eventually(lambda: beside.waiting() == 2)
    if how == "on command":
        assert beside.hold(0.0)["accepting"]
    elif how == "the tap stops":
        assert beside.taps[0].stop() == 0
    assert is_broken(client)
    assert idle.recv(1) == b""
    if how != "the tap stops":
        wire.eventually(lambda: beside.taps[0].outcomes("other", "http") == {"upstream_unavailable": 1})
        assert beside.taps[0].slis().connections["http"] == 0
        beside.hold(0.0)
        assert is_refused(beside), "at once, as a tap alone does it"


def test_triton_that_is_back_in_time_serves_those_who_waited(beside, wire):
    beside.hold()
    client, server = after_one_call(beside, wire)
    dies_and_is_back(beside, wire, server, in_order=True)
    client.sendall(INFER)
    with client, beside.accept(0) as again:
        assert wire.exactly(again, len(INFER)) == INFER
        again.sendall(OK)
        assert wire.exactly(client, len(OK)) == OK
    wire.eventually(lambda: beside.taps[0].outcomes("encode", "http") == {"ok": 2})


def test_clients_that_leave_while_they_wait_are_let_go(beside, wire):
    beside.hold()
    beside.servers[0].close()
    clients = [beside.connect() for _ in range(3)]
    wire.eventually(lambda: beside.waiting() == 3)
    for client in clients:
        wire.break_off(client)
    assert beside.hand_over()["left"] == 0
    wire.eventually(lambda: all(tap.slis().connections["http"] == 0 for tap in beside.taps))
