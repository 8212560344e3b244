"""How long to wait before a dead server is started again. Pure: times come in as numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Doubling waits up to a cap; a run that lasted long enough starts the count afresh."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    healthy_after_seconds: float = 60.0
    """A run this long counts as healthy: the next failure waits ``first_seconds`` again."""

    def failures(self, before: int, ran_seconds: float) -> int:
        """Failures in a row, this one included, when the last run lasted ``ran_seconds``."""
        return 1 if ran_seconds >= self.healthy_after_seconds else before + 1

    def delay_seconds(self, failures: int) -> float:
        """The wait after so many failures in a row (1 or more)."""
        doublings = min(failures - 1, 32)  # far past any cap, and no overflow however long it goes on
        return min(self.first_seconds * 2.0**doublings, self.most_seconds)
