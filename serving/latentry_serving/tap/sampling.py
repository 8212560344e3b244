"""Which calls become samples. Pure: the clock and the dice are arguments."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

_BURST_SECONDS = 0.1
"""Tokens saved up: more would let a pause in traffic be followed by a run of neighbours, less would lose bursts."""


class TokenBucket:
    """Lets through ``per_second`` on average, and after a pause at most a tenth of a second's worth at once."""

    def __init__(self, per_second: float, now_s: float) -> None:
        self._per_second = per_second
        self._capacity = max(1.0, per_second * _BURST_SECONDS)
        self._tokens = self._capacity
        self._filled_s = now_s
        self.next_s = now_s
        """Before this time there is no token: for most calls all that has to be looked at."""

    def take(self, now_s: float) -> bool:
        """Takes a token, if there is one. ``now_s``: monotonic seconds."""
        if now_s < self.next_s:
            return False
        if now_s > self._filled_s:
            self._tokens = min(self._capacity, self._tokens + (now_s - self._filled_s) * self._per_second)
            self._filled_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        if self._tokens < 1:
            self.next_s = self._filled_s + (1 - self._tokens) / self._per_second
        return True

    def give_back(self) -> None:
        """Returns a token that was not used."""
        self._tokens = min(self._capacity, self._tokens + 1)
        self.next_s = self._filled_s


class Ticket(NamedTuple):
    """A call chosen before its operation was known.

    Attributes:
        draw: the dice, in [0, 1): the operation's rate must be above it.
    """

    draw: float


class Sampler:
    """A rate per operation, and a token bucket over all of them."""

    def __init__(
        self, bucket: TokenBucket, rates: Mapping[str, float], operations: frozenset[str], draw: Callable[[], float]
    ) -> None:
        """
        Args:
            rates: share of an operation's calls that may be chosen, in [0, 1]; 1 for an operation not named.
            operations: labels that may be sampled; no other is.
            draw: uniform numbers in [0, 1).
        """
        self.bucket = bucket
        self._rates = {operation: rates.get(operation, 1.0) for operation in operations}
        self._highest = max(self._rates.values(), default=0.0)
        self._draw = draw

    def choose(self, operation: str, now_s: float) -> bool:
        """Whether a call of a known operation becomes a sample."""
        rate = self._rates.get(operation, 0.0)
        return self._draw() < rate and self.bucket.take(now_s)

    def choose_unknown(self, now_s: float) -> Ticket | None:
        """A choice before the operation is known, to be confirmed; None when it would be in vain."""
        ticket = Ticket(self._draw())
        return ticket if ticket.draw < self._highest and self.bucket.take(now_s) else None

    def confirm(self, ticket: Ticket, operation: str) -> bool:
        """Whether the call stays a sample now that its operation is known; if not, its token goes to another."""
        if ticket.draw < self._rates.get(operation, 0.0):
            return True
        self.bucket.give_back()
        return False
