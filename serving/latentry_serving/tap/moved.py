"""Clients on their way from one tap to another: how a message of the control socket carries them.

Their sockets are descriptors of the message, and so is, of each of which something was read already, a file in memory
that holds it: a line of the control socket would be too short.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentry_serving.contract.metrics import Protocol

_MOST_BYTES = 1 << 20
"""Read of one client: the event loop reads 256 KiB at once."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One client.

    Attributes:
        descriptor: of its socket.
        early: what was read of it and has gone nowhere, at most what one or two reads give.
    """

    descriptor: int
    protocol: Protocol
    early: bytes = b""


@contextlib.contextmanager
def sent(clients: Sequence[Moved]) -> Iterator[tuple[dict[str, object], list[int]]]:
    """The message and its descriptors; the clients' own stay the caller's."""
    files: list[int] = []
    try:
        for early in filter(None, (client.early for client in clients)):
            files.append(_file(early))  # noqa: PERF401 - one that fails must not lose those before it
        message = {
            "protocols": [client.protocol for client in clients],
            "early": [len(client.early) for client in clients],
        }
        yield message, [*(client.descriptor for client in clients), *files]
    finally:
        _close(files)


def received(message: Mapping[str, Any], descriptors: Sequence[int]) -> list[Moved]:
    """What `sent` made. Files are read and closed, the clients' descriptors are the caller's now.

    Raises:
        ValueError: it makes no sense; every descriptor is closed.
    """
    try:
        clients = _read(message, descriptors)
    except (KeyError, TypeError, ValueError, OSError) as error:
        _close(descriptors)
        raise ValueError(f"these are no clients to adopt: {error!r}") from error
    _close(descriptors[len(clients) :])
    return clients


def _read(message: Mapping[str, Any], descriptors: Sequence[int]) -> list[Moved]:
    protocols = [Protocol(name) for name in message["protocols"]]
    sizes = [int(size) for size in message["early"]]
    if len(descriptors) != len(protocols) + sum(size > 0 for size in sizes) or max(sizes, default=0) > _MOST_BYTES:
        raise ValueError(f"{len(descriptors)} descriptors for {message}")
    files = iter(descriptors[len(protocols) :])
    clients = [
        Moved(descriptor, protocol, os.pread(next(files), size, 0) if size > 0 else b"")
        for descriptor, protocol, size in zip(descriptors[: len(protocols)], protocols, sizes, strict=True)
    ]
    if [len(client.early) for client in clients] != sizes:
        raise ValueError("less in a file than was said")
    return clients


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _file(data: bytes) -> int:
    file = os.memfd_create("latentry-client")
    if os.pwrite(file, data, 0) != len(data):
        os.close(file)
        raise OSError("no memory for what a client sent")
    return file
