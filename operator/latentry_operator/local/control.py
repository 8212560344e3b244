"""Commands for a running `latentry up`: a Unix socket in the model's run folder, one JSON line each way.

``{"do": "status"}`` or a command of the rollout. The answer is ``{"rollout": ..., "said": [...]}``, or ``{"problem":
..., "remedy": ...}``. Only the user who runs `latentry up` may open the socket.
"""

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from latentry_operator.local.snapshot import Snapshot
from latentry_operator.plan.rollout.facts import Verb
from latentry_serving.contract.errors import OperationFailed

CONTROL_SOCKET = "control.sock"
STATUS = "status"
_MODE = 0o600
_PATH_BYTES = 107
"""Longest path of a Unix socket. Source: unix(7)."""
_LINE_BYTES = 1_000
_PATIENCE_SECONDS = 30.0


class Commanded(Protocol):
    """What takes commands: a local model."""

    snapshot: Snapshot

    async def command(self, verb: Verb) -> list[str]: ...


def socket_path(path: Path) -> str:
    """How to name a socket: absolute or from here, whichever is shorter.

    Raises:
        OperationFailed: neither fits.
    """
    shortest = min((str(path.absolute()), os.path.relpath(path)), key=len)
    if len(os.fsencode(shortest)) > _PATH_BYTES:
        raise OperationFailed(
            f"{shortest} is too long for a socket: {_PATH_BYTES} bytes are the most", remedy="give a shorter --run-dir"
        )
    return shortest


class ControlServer:
    """Takes commands while it is entered; an async context manager."""

    def __init__(self, run_dir: Path, model: Commanded) -> None:
        """
        Args:
            run_dir: existing folder of the model.
        """
        self._file = run_dir / CONTROL_SOCKET
        self._model = model
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listens.

        Raises:
            OperationFailed: the folder's path is too long.
        """
        path = socket_path(self._file)
        self._file.unlink(missing_ok=True)  # of one that was killed
        before = os.umask(0o777 & ~_MODE)
        try:
            self._server = await asyncio.start_unix_server(self._answer, path, limit=_LINE_BYTES)
        finally:
            os.umask(before)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._file.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            writer.write(json.dumps(await self._obey(reader)).encode() + b"\n")
            await writer.drain()

    async def _obey(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                asked = json.loads(await reader.readline())["do"]
                said = [] if asked == STATUS else await self._model.command(Verb(asked))
        except (ValueError, KeyError, TypeError):
            return {"problem": "no such command", "remedy": f"say {STATUS} or one of {', '.join(Verb)}"}
        except TimeoutError:
            return {"problem": f"nothing happened within {_PATIENCE_SECONDS:g} s", "remedy": "ask for the status"}
        rollout = self._model.snapshot.rollout
        return {"rollout": None if rollout is None else asdict(rollout), "said": said}


def listens(run_dir: Path) -> bool:
    """Whether a `latentry up` serves from a model's folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return _connect(client, run_dir)


def ask(run_dir: Path, what: str) -> dict[str, Any]:
    """Asks the `latentry up` that serves from a model's folder.

    Args:
        what: ``status`` or a command.

    Raises:
        OperationFailed: none serves there, it did not answer, or it says what is wrong.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE_SECONDS + 5)
        if not _connect(client, run_dir):
            raise OperationFailed(f"no `latentry up` serves from {run_dir}", remedy="start it, or give --run-dir")
        try:
            client.sendall(json.dumps({"do": what}).encode() + b"\n")
            with client.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        except (OSError, ValueError) as error:
            raise OperationFailed(f"latentry up does not answer: {error}", remedy="look at its terminal") from error
    if "problem" in answer:
        raise OperationFailed(answer["problem"], remedy=answer["remedy"])
    return answer


def _connect(client: socket.socket, run_dir: Path) -> bool:
    try:
        client.connect(socket_path(run_dir / CONTROL_SOCKET))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True
