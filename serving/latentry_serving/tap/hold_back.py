"""Holds sampled calls back until the traffic pauses.

Framing a call and waking the analysis process, which then wants a core, delays the users' calls still under way: of
eight that come at once the last would wait for all of it.
"""

import asyncio
from collections.abc import Callable

from latentry_serving.tap.capture import CapturedCall

SECONDS = 0.05
"""Longest time a call is held back in traffic without a pause."""
CALLS = 16
"""Most calls held back: more at once would hold up the next user's call."""


class HoldBack:
    """Gives calls on, in their order, at the first of: no user's call in flight, `CALLS` held, `SECONDS` gone by."""

    def __init__(
        self,
        give_on: Callable[[list[CapturedCall]], None],
        *,
        in_flight: Callable[[], int],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        """
        Args:
            in_flight: requests of users that are under way now.
            later: runs something after so many seconds, as the event loop's ``call_later``.
        """
        self._give_on = give_on
        self._in_flight = in_flight
        self._later = later
        self._held: list[CapturedCall] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: CapturedCall) -> None:
        """Takes a call that just ended."""
        self._held.append(call)
        if len(self._held) >= CALLS or not self._in_flight():
            self.flush()
        elif self._timer is None:
            self._timer = self._later(SECONDS, self.flush)

    def flush(self) -> None:
        """Gives on what is held."""
        if held := self._take():
            self._give_on(held)

    def drop(self) -> None:
        """Forgets what is held."""
        self._take()

    def _take(self) -> list[CapturedCall]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        return held
