"""The sockets clients come to: opened here or inherited, accepted from or left to another tap."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.metrics import Protocol
from latentry_serving.contract.tap_config import Address, TapConfig

_BACKLOG = 1_024
_TURNS = 3

MakeProtocol = Callable[[Protocol], asyncio.Protocol]


class Doors:
    """Both listening sockets. A tap that stops accepting only stops looking: who waits in the kernel's queue of an
    inherited socket waits for whichever process accepts from it next."""

    def __init__(self, config: TapConfig, make_protocol: MakeProtocol) -> None:
        """
        Args:
            make_protocol: called for every client that comes in.
        """
        self._config = config
        self._make_protocol = make_protocol
        self._sockets: dict[Protocol, socket.socket] = {}
        self._servers: list[asyncio.Server] = []

    @property
    def open(self) -> bool:
        return bool(self._sockets)

    @property
    def accepting(self) -> bool:
        return bool(self._servers)

    async def listen(self) -> tuple[int, int]:
        """Opens both, and accepts unless the configuration says otherwise; answers the ports, HTTP first.

        Raises:
            OperationFailed: an address cannot be bound.
            InvalidInput: an inherited descriptor is no listening TCP socket.
        """
        config = self._config
        try:
            self._sockets[Protocol.HTTP] = _listener(config.http, config.http_fd, "http")
            self._sockets[Protocol.GRPC] = _listener(config.grpc, config.grpc_fd, "grpc")
        except (OperationFailed, InvalidInput):
            self.close()
            raise
        if config.accepting:
            await self.accept()
        return self._sockets[Protocol.HTTP].getsockname()[1], self._sockets[Protocol.GRPC].getsockname()[1]

    async def accept(self) -> None:
        """Takes clients from now on."""
        if self._servers:
            return
        loop = asyncio.get_running_loop()
        for protocol, sock in self._sockets.items():
            make = partial(self._make_protocol, protocol)
            # A copy of the descriptor: the event loop closes its own when it stops accepting.
            self._servers.append(await loop.create_server(make, sock=sock.dup(), backlog=_BACKLOG))

    def stop_accepting(self) -> None:
        """Takes no more clients."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def settled(self) -> None:
        """After `stop_accepting`: returns when everybody who was taken before has a protocol. The event loop makes it
        one turn after it has taken the client."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Takes no more clients, for good."""
        self.stop_accepting()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()


def bind(address: Address, name: str) -> socket.socket:
    """A listening socket.

    Args:
        name: what the address is called in the configuration.

    Raises:
        OperationFailed: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OperationFailed(
            f"cannot listen on {address}: {error.strerror or error}",
            remedy=f"free the port, or choose another {name} address in the tap's configuration (port 0: any free one)",
        ) from error


def _listener(address: Address, descriptor: int | None, name: str) -> socket.socket:
    return bind(address, name) if descriptor is None else inherited(descriptor, f"{name}Fd")


def inherited(descriptor: int, key: str) -> socket.socket:
    """The listening socket that whoever started this process passed on.

    Args:
        key: what the descriptor is called in the configuration.

    Raises:
        InvalidInput: it is no listening TCP socket.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _unusable(descriptor, key, error.strerror or str(error)) from error
    tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise _unusable(descriptor, key, "not a listening TCP socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _unusable(descriptor: int, key: str, problem: str) -> InvalidInput:
    return InvalidInput.one(
        "tap configuration",
        path=key,
        problem=f"descriptor {descriptor}: {problem}",
        remedy="pass a socket on which listen() was called to the tap's process, or remove the key",
    )
