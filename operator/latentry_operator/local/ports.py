"""Which ports a local model listens on: the documented ones while they are free, the next free ones after."""

import socket
from collections.abc import Callable

from latentry_serving.contract.errors import OperationFailed

HOST = "127.0.0.1"
"""Where everything of `latentry up` listens."""
SEARCH = 200
"""How many ports above the wanted one are tried."""

IsFree = Callable[[int], bool]


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a listener could be opened on ``host:port`` right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class PortAllocator:
    """Hands out ports; never the same one twice, though no listener is open on it yet."""

    def __init__(self, free: IsFree = is_free) -> None:
        self._free = free
        self._given: set[int] = set()

    def take(self, wanted: int) -> int:
        """The first free port from ``wanted`` upwards.

        Raises:
            OperationFailed: none of the next 200 ports is free.
        """
        last = min(wanted + SEARCH, 65_535)
        for port in range(wanted, last + 1):
            if port not in self._given and self._free(port):
                self._given.add(port)
                return port
        raise OperationFailed(
            f"no free port between {wanted} and {last}", remedy="stop what listens there, or give another first port"
        )

    def give_back(self, port: int) -> None:
        """A port that is listened on no more."""
        self._given.discard(port)
