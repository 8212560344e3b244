"""A tap's control socket: accept, stop accepting, hold, hand over, and the receiving side of another tap's handover."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latentry_serving.contract.errors import OperationFailed
from latentry_serving.tap.control_wire import ControlWire
from latentry_serving.tap.forwarder import Forwarder
from latentry_serving.tap.handover import Handover, hand_over
from latentry_serving.tap.moved import received

log = logging.getLogger(__name__)

_BACKLOG = 16


class Control:
    """Listens on a Unix socket of mode 0600: only the user that runs the tap, and root, get in."""

    def __init__(self, path: str, forwarder: Forwarder, clock: Callable[[], float]) -> None:
        """
        Args:
            clock: monotonic seconds.
        """
        self._path = Path(path)
        self._forwarder = forwarder
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopting: set[asyncio.Future[list[None]]] = set()
        self._handing: asyncio.Task[Handover] | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            OperationFailed: the socket cannot be made there, or another process listens on it.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._remove_remains()
            sock.bind(str(self._path))
            self._path.chmod(0o600)
            sock.listen(_BACKLOG)  # not before: nobody gets in while the mode is the default
        except OSError as error:
            sock.close()
            raise OperationFailed(
                f"cannot make the control socket {self._path}: {error.strerror or error}",
                remedy="give control: a path of at most 107 bytes in a folder that this user may write to",
            ) from error
        sock.setblocking(False)
        self._run(self._accept(sock))

    async def stop(self) -> None:
        """Listens no more, ends a handover that is on its way, and takes up the clients it has said it has."""
        await self._end_handover()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._adopting, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _remove_remains(self) -> None:
        """Of a tap that was killed."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.stat().st_mode):
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(str(self._path))
                except ConnectionRefusedError:
                    self._path.unlink()

    def _run(self, what: Any) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                sock, _ = await asyncio.get_running_loop().sock_accept(listener)
                self._run(self._serve(ControlWire(sock)))

    async def _serve(self, wire: ControlWire) -> None:
        try:
            while (received := await wire.receive()) is not None:
                message, descriptors = received
                if message.get("do") == "adopt":
                    await self._adopt(wire, message, descriptors)
                    continue
                for descriptor in descriptors:
                    os.close(descriptor)
                wire.send(await self._answer(message))
        except OSError as error:
            log.warning("control connection given up: %s", error)
        finally:
            wire.close()

    async def _answer(self, message: dict[str, Any]) -> dict[str, object]:
        forwarder, do = self._forwarder, message.get("do")
        if do != "status" and not forwarder.doors.open:
            return {"refused": "this tap is stopping"}
        if do == "accept":
            await self._end_handover()
            await forwarder.doors.accept()
        elif do == "stop accepting":
            forwarder.doors.stop_accepting()
        elif do in ("hand over", "hold"):
            if (seconds := _seconds(message)) is None:
                return {"refused": "seconds must be a number, 0 or more"}
            if do == "hand over":
                return await self._hand_over(str(message.get("to")), seconds)
            forwarder.be_patient(seconds)
        elif do != "status":
            return {"refused": f"no such command: {do!r}; there are status, accept, stop accepting, hold, hand over"}
        return {
            "accepting": forwarder.doors.accepting,
            "connections": len(forwarder.connections),
            "waiting": sum(connection.waiting for connection in forwarder.connections),
            "handing_over": self._handing is not None,
        }

    async def _hand_over(self, to: str, seconds: float) -> dict[str, object]:
        if self._handing is not None:
            return {"refused": "a handover is on its way"}
        if Path(to) == self._path:
            return {"refused": f"{to} is this tap itself"}
        handing = self._handing = asyncio.create_task(hand_over(self._forwarder, to, seconds, self._clock))
        handing.add_done_callback(self._handed_over)
        await asyncio.wait({handing})
        return {"refused": "ended by another command"} if handing.cancelled() else asdict(handing.result())

    def _handed_over(self, _task: asyncio.Task[Handover]) -> None:
        self._handing = None

    async def _end_handover(self) -> None:
        if self._handing is not None:
            self._handing.cancel()
            await asyncio.wait({self._handing})

    async def _adopt(self, wire: ControlWire, message: Mapping[str, Any], descriptors: list[int]) -> None:
        """Takes clients of another tap. The answer goes out before anything is read from them: when it cannot, the
        other tap goes on with them."""
        try:
            moved = received(message, descriptors)
        except ValueError as error:
            wire.send({"refused": str(error)})
            return
        clients = [socket.socket(fileno=client.descriptor) for client in moved]
        taken = min(len(clients), self._forwarder.room)
        try:
            wire.send({"taken": taken})
        except OSError:
            taken = 0
            raise
        finally:
            for client in clients[taken:]:
                client.close()
        adopting = asyncio.gather(
            *(
                self._forwarder.adopt(client, one.protocol, one.early)
                for client, one in zip(clients[:taken], moved, strict=False)
            )
        )
        self._adopting.add(adopting)
        adopting.add_done_callback(self._adopting.discard)


def _seconds(message: Mapping[str, Any]) -> float | None:
    seconds = message.get("seconds")
    good = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf")
    return seconds if good else None
