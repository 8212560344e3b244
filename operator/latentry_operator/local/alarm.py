"""What is being waited for gives way when something broke: the next look is to come at once."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class Alarm:
    """Rung by whoever sees that a revision no longer answers."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """What is waited for is given up, and so is what begins before `reset`."""
        self._rung.set()

    def reset(self) -> None:
        """What rang so far is known."""
        self._rung.clear()

    async def unless_rung(self, what: Awaitable[_T], otherwise: _T) -> _T:
        """The result of ``what``, or ``otherwise`` when it rings before: then ``what`` is cancelled."""
        waited, ringing = asyncio.ensure_future(what), asyncio.ensure_future(self._rung.wait())
        try:
            await asyncio.wait({waited, ringing}, return_when=asyncio.FIRST_COMPLETED)
            return waited.result() if waited.done() else otherwise
        finally:
            waited.cancel()
            ringing.cancel()
            await asyncio.gather(waited, ringing, return_exceptions=True)
