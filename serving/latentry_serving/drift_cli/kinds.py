"""Kinds of drift that can be simulated."""

from enum import StrEnum


class DriftKind(StrEnum):
    """What changes, and what its size means."""

    SHIFT = "shift"  # every dimension's mean, by size standard deviations
    SCALE = "scale"  # every value, times 1 + size
    NOISE = "noise"  # added to every dimension, of size standard deviations
    ROTATION = "rotation"  # pairs of dimensions turned by size radians
    MIXTURE = "mixture"  # a share size of the traffic is replaced by one group's
    DUPLICATES = "duplicates"  # a share size of the traffic repeats a vector that came just before


REORDERING = frozenset({DriftKind.MIXTURE, DriftKind.DUPLICATES})
"""Kinds that change which vectors come, not the vectors: they touch all tensors alike."""
