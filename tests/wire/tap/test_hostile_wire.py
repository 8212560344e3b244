"""Hostile and merely many connections through a running tap: bounded memory, and others are served meanwhile."""

import resource
import selectors
import socket
import threading

import pytest

INFER = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_CONNECTIONS = 10_000
BYTES_EACH = 300_000_000 // MOST_CONNECTIONS


class Echo(threading.Thread):
    """Answers every piece it gets on any connection."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._done, self._finish = socket.socketpair()
        for sock in (listener, self._done):
            self._selector.register(sock, selectors.EVENT_READ)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._done:
                    return
                self._serve(key.fileobj)

    def _serve(self, sock: socket.socket) -> None:
        if sock is self._listener:
            self._selector.register(sock.accept()[0], selectors.EVENT_READ)
            return
        try:
            received = sock.recv(1 << 16)
            if received:
                sock.sendall(OK)
        except ConnectionError:
            received = b""
        if not received:
            self._selector.unregister(sock)
            sock.close()

    def stop(self) -> None:
        self._finish.close()
        self.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()


@pytest.fixture
def echoing(start_relay):
    relay = start_relay()
    relay.upstream.listener.settimeout(None)
    relay.upstream.listener.listen(4_096)
    echo = Echo(relay.upstream.listener)
    echo.start()
    yield relay.tap
    echo.stop()


@pytest.fixture
def many() -> int:
    """How many connections the descriptors allow: one here, two in the tap, one at the other end, which is here too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed = min(MOST_CONNECTIONS, (hard - 1_000) // 2)
    assert allowed >= 1_000, f"the hard limit on open files is {hard}: raise it (ulimit -Hn 21000)"
    yield allowed
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_ten_thousand_idle_connections(name, echoing, many, wire):
    before = echoing.memory_bytes()
    greeting = INFER if name == "http" else PREFACE
    clients = []
    try:
        for _ in range(many):
            client = echoing.connect(name)
            clients.append(client)
            client.sendall(greeting)
            assert wire.exactly(client, len(OK)) == OK
        assert echoing.slis().connections[name] == many
        assert echoing.memory_bytes() - before < many * BYTES_EACH
        assert echoing.get("/readyz")[0] in (200, 503), "the admin API answers"
    finally:
        for client in clients:
            client.close()
    wire.eventually(lambda: echoing.slis().connections[name] == 0)


def test_slow_lorises_hold_little_and_hold_up_nobody(echoing, wire):
    before = echoing.memory_bytes()
    lorises = [echoing.connect() for _ in range(200)]
    for letter in INFER[:60]:
        for loris in lorises:
            loris.sendall(bytes([letter]))
    with echoing.connect() as client:
        client.sendall(INFER)
        assert wire.exactly(client, len(OK)) == OK
    wire.eventually(lambda: echoing.outcomes("encode", "http").get("ok") == 1)
    assert echoing.memory_bytes() - before < 200 * BYTES_EACH
    for loris in lorises:
        loris.close()


def test_four_gigabytes_announced_cost_nothing(echoing, wire):
    before = echoing.memory_bytes()
    with echoing.connect() as client:
        client.sendall(b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n")
        for _ in range(64):
            client.sendall(b"x" * (1 << 20))
            client.setblocking(False)
            try:
                while client.recv(1 << 20):
                    pass
            except BlockingIOError:
                client.setblocking(True)
        assert echoing.memory_bytes() - before < 16 << 20
    wire.eventually(lambda: echoing.slis().connections["http"] == 0)
