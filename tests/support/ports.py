"""Ports for servers that are told theirs before they listen."""

import random
import socket

_BELOW = range(10_000, 20_000)
"""Where no outgoing connection gets its port from (Linux: 32768 and above): of those that are free now, one may be gone
before the server listens. `latentry up` of the end-to-end tests takes from 20,000 on."""
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on now, and that was not given before."""
    while True:
        port = random.choice(_BELOW)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
