"""What became of the sampled calls, counted. Pure; one thread writes, any may read."""

from collections import Counter
from collections.abc import Iterable

from latentry_serving.contract.metrics import SampleLoss


class SampleBook:
    """Counts per operation label."""

    def __init__(self, operations: Iterable[str]) -> None:
        """
        Args:
            operations: labels that exist from the start, so that their counters begin at zero.
        """
        self.operations = tuple(dict.fromkeys(operations))
        self.analysed: Counter[str] = Counter()
        """Samples decoded and seen by every consumer."""
        self.lost: Counter[tuple[str, SampleLoss]] = Counter()
        self.non_finite: Counter[str] = Counter()
        """Output values that are NaN or infinite."""
