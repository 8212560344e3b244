"""Holds sampled calls back until there are some, and the traffic pauses.

Framing a call and waking the analysis process, which then wants a core, delays the users' calls still under way: of
eight that come at once the last would wait for all of it. And a process that is woken for one call takes twice as long
for it as for one of sixteen: the other work has taken the processor's caches from it.
"""

import asyncio
from collections.abc import Callable

from latentry_serving.contract.tap_config import SampleQueue
from latentry_serving.tap.capture import CapturedCall

SECONDS = 0.05
"""Longest time a call is held back."""
ENOUGH = 16
"""Calls that the process is woken for in a pause. Twice as many go on without one: more at once would hold up the next
user's call."""
ENOUGH_BYTES = 256 * 1024
"""Fewer calls of so many bytes are enough, too: what is gained by waiting is small beside the work on them."""
_QUEUE_SHARE = 8
"""At most this part of what may wait for the analysis is held back here for a pause."""


class HoldBack:
    """Gives calls on, in their order, at the first of: enough held and no user's call in flight, twice as much held,
    `SECONDS` gone by."""

    def __init__(
        self,
        give_on: Callable[[list[CapturedCall]], None],
        *,
        queue: SampleQueue,
        in_flight: Callable[[], int],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        """
        Args:
            queue: how much may wait for the analysis, here included.
            in_flight: requests of users that are under way now.
            later: runs something after so many seconds, as the event loop's ``call_later``.
        """
        self._give_on = give_on
        self._in_flight = in_flight
        self._later = later
        self._enough = max(1, min(ENOUGH, queue.calls // _QUEUE_SHARE))
        self._enough_bytes = max(1, min(ENOUGH_BYTES, queue.bytes // _QUEUE_SHARE))
        self._held: list[CapturedCall] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: CapturedCall) -> None:
        """Takes a call that just ended."""
        self._held.append(call)
        self._bytes += call.bytes
        fill = max(len(self._held) / self._enough, self._bytes / self._enough_bytes)
        if fill >= 2 or (fill >= 1 and not self._in_flight()):
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
        held, self._held, self._bytes = self._held, [], 0
        return held
