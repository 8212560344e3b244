"""Calls of the tap itself to its Triton: the repository API and golden probes. Blocking, for a thread of its own.

Protocol: Open Inference Protocol v2 with Triton's extensions for binary tensors and the model repository.
"""

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from latentry_serving.contract.tap_config import Address

_JSON_OK = 200
_SHOWN_CHARACTERS = 500
Buffer = bytes | memoryview


class TritonUnreachable(Exception):
    """Triton took no connection, broke it, or was silent for too long."""


class TritonRefused(Exception):
    """Triton answered with an error, or not in the protocol's words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class TritonHttp:
    """One keep-alive connection, opened at the first call. Leave it soon: Triton waits for it before it stops."""

    def __init__(self, address: Address, *, silence_seconds: float) -> None:
        """
        Args:
            silence_seconds: how long nothing may arrive before a call fails.
        """
        self._address = address
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=silence_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def abort(self) -> None:
        """Ends the call that is under way in another thread; it raises TritonUnreachable there."""
        sock: socket.socket | None = self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def repository(self) -> dict[str, str]:
        """Model -> state, of every model that Triton sees; the state is empty when it was never loaded."""
        try:
            return {entry["name"]: entry.get("state", "") for entry in self._json("POST", "/v2/repository/index", {})}
        except (TypeError, KeyError) as error:
            raise TritonRefused(f"an index that is none: {error!r}") from error

    def model_config(self, model: str) -> dict[str, Any]:
        """The configuration a loaded model runs with, in the words of Triton's model_config.proto."""
        config = self._json("GET", f"/v2/models/{model}/config", None)
        if not isinstance(config, dict):
            raise TritonRefused(f"a configuration of {model} that is none")
        return config

    def load(self, model: str, config: str) -> None:
        """Loads a model, or loads it anew, with a configuration in place of its file's; returns when it is ready."""
        self._json("POST", f"/v2/repository/models/{model}/load", {"parameters": {"config": config}})

    def call(self, method: str, path: str, body: Sequence[Buffer], headers: Mapping[str, str]) -> Answer:
        """One request and its answer.

        Raises:
            TritonUnreachable: no answer.
        """
        length = {"Content-Length": str(sum(memoryview(part).nbytes for part in body))}
        try:
            self._connection.request(method, path, body=iter(body), headers=length | dict(headers))
            response = self._connection.getresponse()
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next call starts afresh
            raise TritonUnreachable(f"Triton at {self._address}: {error or type(error).__name__}") from error
        return answer

    def _json(self, method: str, path: str, value: object) -> Any:
        body = [] if value is None else [json.dumps(value).encode()]
        answer = self.call(method, path, body, {"Content-Type": "application/json"})
        if answer.status != _JSON_OK:
            raise TritonRefused(f"HTTP {answer.status}: {error_text(answer.body)}")
        try:
            return json.loads(answer.body) if answer.body else None
        except ValueError as error:
            raise TritonRefused(f"no JSON: {error}") from error


def error_text(body: bytes) -> str:
    """What an error answer says, shortened."""
    text = body.decode("utf-8", errors="replace")
    with suppress(ValueError, TypeError, KeyError):
        text = str(json.loads(body)["error"])
    return text[:_SHOWN_CHARACTERS] or "(no explanation)"
