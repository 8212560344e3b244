"""How long-running bundle work tells its caller where it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step that is about to begin: ``done`` of ``total`` are finished."""

    name: str
    done: int
    total: int


Progress = Callable[[Step], None]


class Steps:
    """Counts steps and reports each as it begins; silent without a listener."""

    def __init__(self, total: int, listener: Progress | None) -> None:
        self._total = total
        self._done = 0
        self._listener = listener

    def begin(self, name: str) -> None:
        """Reports the next step."""
        self._report(name, self._done)
        self._done += 1

    def detail(self, name: str) -> None:
        """Reports how far the step is that has begun."""
        self._report(name, self._done - 1)

    def _report(self, name: str, done: int) -> None:
        if self._listener is not None:
            self._listener(Step(name, done, self._total))
