"""The control socket's wire and inherited listening sockets."""

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.metrics import Protocol
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.tap.control import Control
from latentry_serving.tap.control_client import ask
from latentry_serving.tap.control_wire import ControlWire
from latentry_serving.tap.forwarder import Forwarder
from latentry_serving.tap.listening import inherited
from latentry_serving.tap.moved import Moved, sent
from latentry_serving.tap.settings import load_config


@pytest.fixture
def wires():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = [ControlWire(end) for end in ends]
    yield made
    for wire in made:
        wire.close()


async def test_questions_answers_and_descriptors_pass(wires):
    asking, answering = wires
    reading, writing = os.pipe()
    asked = asyncio.create_task(asking.ask({"do": "adopt"}, [writing]))
    question, descriptors = await answering.receive()
    os.write(descriptors[0], b"x")
    assert os.read(reading, 1) == b"x"
    assert not os.get_inheritable(descriptors[0])
    answering.send({"taken": 1})
    assert (question, await asked) == ({"do": "adopt"}, {"taken": 1})
    for descriptor in (reading, writing, *descriptors):
        os.close(descriptor)


async def test_after_an_unanswered_question_no_answer_can_be_given(wires):
    asking, answering = wires
    with pytest.raises(ConnectionError, match="does not answer"):
        await asking.ask({"do": "adopt"}, seconds=0.0)
    await answering.receive()
    with pytest.raises(BrokenPipeError):
        answering.send({"taken": 1})


async def test_an_answer_that_came_in_the_last_moment_counts(wires):
    asking, answering = wires
    answering.send({"taken": 1})
    assert await asking.ask({"do": "adopt"}, seconds=0.0) == {"taken": 1}


async def test_a_refusal_is_an_error_for_people(wires):
    asking, answering = wires
    answering.send({"refused": "this tap is stopping"})
    with pytest.raises(OperationFailed, match="refuses to adopt: this tap is stopping"):
        await asking.ask({"do": "adopt"})


@pytest.mark.parametrize("data", [b"nonsense\n", b"[1]\n", b"x" * 70_000], ids=["not JSON", "no object", "too long"])
async def test_nonsense_ends_the_connection(data):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    wire = ControlWire(near)
    far.sendall(data)
    with pytest.raises(ConnectionError):
        await wire.receive()
    wire.close()
    far.close()


async def test_descriptors_nobody_took_are_closed_with_the_wire(wires):
    asking, answering = wires
    near, far = socket.socketpair()
    asking.send({"do": "adopt"}, [near.fileno()])
    near.close()
    asking.close()
    _, descriptors = await answering.receive()
    answering._descriptors = descriptors
    answering.close()
    assert far.recv(1) == b""
    far.close()


def not_listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize(
    "make", [not_listening, lambda: socket.socketpair()[0], lambda: socket.socket(type=socket.SOCK_DGRAM)]
)
def test_what_is_no_listening_tcp_socket_is_refused_and_left_alone(make):
    with make() as sock, pytest.raises(InvalidInput, match=r"httpFd: descriptor .* not a listening TCP socket"):
        inherited(sock.fileno(), "httpFd")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        number = gone.fileno()
    with pytest.raises(InvalidInput, match=f"descriptor {number}"):
        inherited(number, "httpFd")


def test_settings_from_the_environment():
    config = load_config(
        None,
        {
            "LATENTRY_TAP_HTTP_FD": "5",
            "LATENTRY_TAP_GRPC_FD": "6",
            "LATENTRY_TAP_ACCEPTING": "false",
            "LATENTRY_TAP_CONTROL": "/run/tap.sock",
        },
    )
    assert (config.http_fd, config.grpc_fd, config.accepting, config.control) == (5, 6, False, "/run/tap.sock")
    with pytest.raises(InvalidInput, match="HTTP_FD"):
        load_config(None, {"LATENTRY_TAP_HTTP_FD": "2"})


@pytest.fixture
async def tap(tmp_path):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    fds = [listener.detach() for listener in listeners]
    config = TapConfig(http_fd=fds[0], grpc_fd=fds[1], accepting=False, control=str(tmp_path / "tap.sock"))
    book = SliBook((1.0,), [], started_s=0.0)
    forwarder = Forwarder(config, book, book, lambda: 0.0)
    await forwarder.listen()
    control = Control(config.control, forwarder, lambda: 0.0)
    control.start()
    yield config.control, forwarder
    forwarder.doors.close()
    await control.stop()
    assert not Path(config.control).exists()


async def test_commands(tap):
    path, forwarder = tap
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    idle = {"accepting": False, "connections": 0, "waiting": 0, "handing_over": False}
    assert await ask(path, "status") == idle
    assert await ask(path, "accept") == await ask(path, "status") == idle | {"accepting": True}
    assert await ask(path, "stop accepting") == idle
    for do, more, match in [
        ("dance", {}, "no such command"),
        ("hand over", {"to": path}, "is this tap itself"),
        ("hand over", {"to": path, "seconds": -1.0}, "seconds must be"),
        ("hold", {"seconds": -1.0}, "seconds must be"),
    ]:
        with pytest.raises(OperationFailed, match=match):
            await ask(path, do, **more)
    forwarder.doors.close()
    with pytest.raises(OperationFailed, match="this tap is stopping"):
        await ask(path, "accept")


async def test_without_a_tap_at_the_other_end_nothing_changes(tap, tmp_path):
    path, forwarder = tap
    await ask(path, "accept")
    answer = await ask(path, "hand over", to=str(tmp_path / "nobody.sock"), seconds=1.0)
    assert "nobody.sock" in answer.pop("problem")
    assert answer == {"moved": 0, "ended": 0, "left": 0}
    assert forwarder.doors.accepting


async def test_a_socket_in_use_or_no_socket_at_all_is_not_taken_over(tap, tmp_path):
    path, forwarder = tap
    (tmp_path / "file").write_text("mine")
    for taken in (path, str(tmp_path / "file"), str(tmp_path / ("x" * 200))):
        with pytest.raises(OperationFailed, match="cannot make the control socket"):
            Control(taken, forwarder, lambda: 0.0).start()
    assert (tmp_path / "file").read_text() == "mine"
    assert (await ask(path, "status"))["connections"] == 0


async def test_a_tap_that_accepts_nobody_adopts_nobody(tap):
    path, forwarder = tap
    near, far = socket.socketpair()
    wire = await ControlWire.connect(path)
    with sent([Moved(near.fileno(), Protocol.HTTP)]) as (message, descriptors):
        assert await wire.ask({"do": "adopt", **message}, descriptors) == {"taken": 0}
    assert forwarder.connections == set()
    assert forwarder.doors.open
    for sock in (wire, near, far):
        sock.close()
