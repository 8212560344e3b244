"""A program that serves HTTP on a port of ours."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kube.process import Child
from ports import free_port

START_SECONDS = 90.0
ANSWER_SECONDS = 30.0


def eventually(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of ``check``.

    Raises:
        AssertionError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


class Server:
    """One program with its address; a context manager."""

    def __init__(self, name: str, folder: Path, ready: str) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._name = name
        self._ready = ready
        self._child: Child | None = None

    def command(self) -> Sequence[str | Path]:
        """What is started."""
        raise NotImplementedError

    def get(self, path: str) -> Any:
        """The JSON behind a path."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=ANSWER_SECONDS) as answer:
            return json.loads(answer.read())

    def _answers(self) -> bool:
        assert self._child is not None
        assert self._child.running, self._child.tail()
        try:
            with urllib.request.urlopen(f"http://{self.address}{self._ready}", timeout=ANSWER_SECONDS) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def __enter__(self) -> Self:
        self._child = Child(self._name, self.command(), self.folder / f"{self._name}.log")
        self._child.start()
        eventually(self._answers, START_SECONDS, f"{self._name} is ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child is not None:
            self._child.stop()
