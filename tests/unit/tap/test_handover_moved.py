"""Clients on their way between two taps: sockets, and what was read of them."""

import os
import socket

import pytest

from latentry_serving.contract.metrics import Protocol
from latentry_serving.tap.moved import Moved, received, sent


@pytest.fixture
def pipes():
    """Copies of descriptors, as the other end of a control socket gets them."""
    made = []

    def copies(descriptors):
        made.extend(os.dup(one) for one in descriptors)
        return made[-len(descriptors) :]

    return copies


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_clients_arrive_with_what_was_read_of_them(pipes):
    ends = [socket.socketpair() for _ in range(3)]
    early = [b"", bytes(range(256)) * 1_024, b"PRI"]
    spoken = [Protocol.HTTP, Protocol.HTTP, Protocol.GRPC]
    clients = [Moved(near.fileno(), *rest) for (near, _), *rest in zip(ends, spoken, early, strict=True)]
    with sent(clients) as (message, descriptors):
        copies = pipes(descriptors)
    assert [is_open(one) for one in descriptors] == [True] * 3 + [False] * 2
    found = received(message, copies)
    assert [(one.protocol, one.early) for one in found] == list(zip(spoken, early, strict=True))
    for one, (near, far) in zip(found, ends, strict=True):
        near.close()
        with socket.socket(fileno=one.descriptor) as client:
            client.sendall(b"x")
        assert far.recv(2) == b"x"
        far.close()
    assert not any(map(is_open, copies))


def test_no_file_is_left_open_when_one_cannot_be_made(monkeypatch):
    made = []
    create = os.memfd_create

    def once(name):
        if made:
            raise OSError("no more")
        made.append(create(name))
        return made[0]

    monkeypatch.setattr(os, "memfd_create", once)
    with pytest.raises(OSError, match="no more"), sent([Moved(0, Protocol.HTTP, b"a"), Moved(0, Protocol.HTTP, b"b")]):
        pass
    assert [is_open(one) for one in made] == [False]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"protocols": ["http"]},
        {"protocols": ["http"], "early": [1]},
        {"protocols": ["http", "http"], "early": [0]},
        {"protocols": ["smtp", "http"], "early": [0, 0]},
        {"protocols": ["http"], "early": [2_000_000]},
        {"protocols": ["http"], "early": [10]},
        {"protocols": 7, "early": []},
    ],
)
def test_what_makes_no_sense_is_refused_and_closed(message, pipes, tmp_path):
    (tmp_path / "file").write_bytes(b"short")
    with (tmp_path / "file").open("rb") as file:
        copies = pipes([file.fileno()] * (1 if message.get("early") == [1] else 2))
    with pytest.raises(ValueError, match="no clients to adopt"):
        received(message, copies)
    assert not any(map(is_open, copies))
