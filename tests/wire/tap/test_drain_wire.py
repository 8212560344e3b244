"""Stopping: not ready first, no new connections, calls in flight finish, exit code 0."""

import signal
import socket
import subprocess
import sys

import pytest

INFER = b"POST /v2/models/wide_encode/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
LAST = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


def test_calls_in_flight_finish_and_idle_connections_close(start_relay, wire):
    relay = start_relay(drain_seconds=120)
    with relay.pair() as (idle, idle_server), relay.pair() as (busy, server):
        idle.sendall(INFER)
        assert wire.exactly(idle_server, len(INFER)) == INFER
        idle_server.sendall(OK)
        assert wire.exactly(idle, len(OK)) == OK
        busy.sendall(INFER[:-2])
        wire.eventually(lambda: relay.tap.slis().inference.in_flight == 1)
        relay.tap.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        status, body = relay.tap.get("/readyz")
        assert status == 503
        assert b"draining" in body
        with pytest.raises(ConnectionRefusedError):
            relay.tap.connect()
        busy.sendall(INFER[-2:])
        assert wire.exactly(server, len(INFER)) == INFER
        server.sendall(OK)
        assert wire.exactly(busy, len(LAST)) == LAST
        assert busy.recv(1) == b""
        assert relay.tap.process.wait(timeout=60) == 0


@pytest.mark.parametrize("hurry", [False, True], ids=["deadline", "second signal"])
def test_a_call_that_never_ends_is_broken_off(hurry, start_relay, wire):
    relay = start_relay(drain_seconds=1000 if hurry else 0.2)
    with relay.pair() as (client, server):
        client.sendall(INFER)
        assert wire.exactly(server, len(INFER)) == INFER
        wire.eventually(lambda: relay.tap.slis().inference.in_flight == 1)
        relay.tap.process.send_signal(signal.SIGTERM)
        if hurry:
            wire.eventually(lambda: relay.tap.get("/readyz")[0] == 503)
            relay.tap.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert relay.tap.process.wait(timeout=60) == 0


def tap_once(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "latentry_serving", "tap", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_wrong_configuration_ends_with_2_and_names_the_key(tmp_path):
    path = tmp_path / "tap.yaml"
    path.write_text("drainSeconds: soon\n")
    result = tap_once("--config", str(path))
    assert result.returncode == 2
    assert "drainSeconds" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_ends_with_1_and_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = "127.0.0.1:0"
        result = tap_once(LATENTRY_TAP_GRPC=address, LATENTRY_TAP_HTTP=free, LATENTRY_TAP_ADMIN=free)
    assert result.returncode == 1
    assert address in result.stderr
    assert "Traceback" not in result.stderr
