"""The model's admin address: one for as long as the model lives, whichever revision's tap has the traffic.

So Prometheus and bookmarks stay right over rollouts. Connections are led through byte by byte.
"""

import asyncio
import contextlib
from socket import socket
from types import TracebackType
from typing import Self

from latentry_serving.contract.tap_config import Address

_CHUNK = 65_536


class AdminDoor:
    """Leads connections to a tap's admin API while it is entered; an async context manager."""

    def __init__(self, listener: socket) -> None:
        """
        Args:
            listener: a listening socket; closed at the end.
        """
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._target: Address | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, sock=self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._end_all()
        if self._open:
            await asyncio.wait(self._open)

    def lead_to(self, target: Address) -> None:
        """From now on to this tap. Who is connected to another one is cut off, and finds it when coming again."""
        if target != self._target:
            self._target = target
            self._end_all()

    def _end_all(self) -> None:
        for task in self._open:
            task.cancel()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, target = asyncio.current_task(), self._target
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            if target is None:
                return
            there, back = await asyncio.open_connection(target.host, target.port)
            with contextlib.closing(back):
                await asyncio.gather(_pour(reader, back), _pour(there, writer))


async def _pour(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        into.write(data)
        await into.drain()
    if into.can_write_eof():
        into.write_eof()
