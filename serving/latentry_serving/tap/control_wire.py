"""How taps and whoever started them talk over a control socket: a JSON object a line, descriptors beside it."""

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Self

from latentry_serving.contract.errors import OperationFailed

ANSWER_SECONDS = 5.0
"""How long an answer may take, save to a command that says how long it takes."""
_MOST_DESCRIPTORS = 253  # SCM_MAX_FD
_MOST_BYTES = 65_536


class ControlWire:
    """One connection of a control socket, either end. One question at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._descriptors: list[int] = []

    @classmethod
    async def connect(cls, path: str) -> Self:
        """The connection to a tap.

        Raises:
            OSError: nobody listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def ask(
        self, question: Mapping[str, object], descriptors: Sequence[int] = (), seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """The answer to a question. After an `OSError` the other end has not got, and never gets, to act on it.

        Args:
            descriptors: open files that go with it; copies of them reach the other end.

        Raises:
            OSError: the other end is gone, or does not answer.
            OperationFailed: it refuses.
        """
        self.send(question, descriptors)
        try:
            async with asyncio.timeout(seconds):
                received = await self.receive()
        except TimeoutError:
            received = self._last_words()
        if received is None:
            raise ConnectionError("the tap at the other end does not answer")
        answer = received[0]
        if problem := answer.get("refused"):
            raise OperationFailed(f"the tap refuses to {question.get('do')}: {problem}", remedy="see its log")
        return answer

    def send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Sends one line at once.

        Raises:
            OSError: the other end is gone or reads nothing.
        """
        line = json.dumps(message).encode() + b"\n"
        if socket.send_fds(self._sock, [line], list(descriptors)) != len(line):
            raise ConnectionError("the other end of a control socket reads nothing")

    async def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next line and the descriptors that came up to it, which are the caller's to close; None at the end.

        Raises:
            OSError: the other end is gone, or makes no sense.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MOST_BYTES:
                raise ConnectionError(f"a line of more than {_MOST_BYTES} bytes")
            await self._readable()
            if not self._read():
                return None
        return self._next()

    def close(self) -> None:
        """Closes it, and descriptors that nobody took."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._sock.close()

    def _next(self) -> tuple[dict[str, Any], list[int]]:
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ConnectionError(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise ConnectionError("not a JSON object")
        descriptors, self._descriptors = self._descriptors, []
        return message, descriptors

    def _read(self) -> bool:
        """Reads what is there; False at the end."""
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._sock, _MOST_BYTES, _MOST_DESCRIPTORS)
        except BlockingIOError:
            return True
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        self._buffer += data
        return bool(data)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        descriptor = self._sock.fileno()
        loop.add_reader(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(descriptor)

    def _last_words(self) -> tuple[dict[str, Any], list[int]] | None:
        """Makes sure that no answer can come any more (the other end's writing fails from here on), and then looks
        whether one had."""
        self._sock.shutdown(socket.SHUT_RD)
        while self._read():
            if b"\n" in self._buffer:
                return self._next()
        return None
