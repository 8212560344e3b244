"""From p-values to alarms: a Shewhart rule for big shifts and a CUSUM for small ones, for many statistics at once.

Both take one p-value per statistic and window, uniform on undrifted traffic or larger. What they do at the edges:

- ``p = NaN``: the window was not judged for this statistic. Nothing changes, and it counts as no window.
- ``p = 0``: treated as ``P_FLOOR``; an alarm of the Shewhart rule at every alpha, and z = 37 for the CUSUM.
- ``p = 1``: z is minus infinity; the CUSUM goes back to zero. A statistic of counts that are nearly always 0 has p = 1
  nearly always; it then alarms more rarely than its share, never more often.
- anything outside [0, 1] is a programming error: ValueError.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from latentry_serving.drift.run_length import cusum_design, cusum_run_length, cusum_threshold

__all__ = ["P_FLOOR", "Shewhart", "Cusum", "CusumState", "cusum_design", "cusum_run_length", "cusum_threshold"]

Array = NDArray[np.float64]

P_FLOOR = 1e-300
"""Smallest p-value told apart from zero; keeps every score finite, so that it can be written as JSON."""


class Shewhart:
    """Alarm in a window whose p-value is at or below alpha. Without memory: mean run 1 / alpha windows.

    Args:
        alpha: scalar or one per statistic [m], in (0, 1).
    """

    __slots__ = ("alpha",)

    def __init__(self, alpha: ArrayLike) -> None:
        self.alpha: Array = np.asarray(alpha, dtype=np.float64)
        if not np.all((self.alpha > 0) & (self.alpha < 1)):
            raise ValueError(f"alpha must lie in (0, 1), not {self.alpha}")

    def alarms(self, p: ArrayLike) -> NDArray[np.bool_]:
        """Whether each statistic's window alarms [m]; not where p is NaN."""
        return np.asarray(_checked(p) <= self.alpha, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class CusumState:
    """All that a CUSUM remembers, per statistic: plain lists, to be written and read as JSON.

    Attributes:
        sums: S, between 0 and h.
        windows: judged windows since S last was zero.
        alarmed: whether the alarm is on.
    """

    sums: list[float]
    windows: list[int]
    alarmed: list[bool]


class Cusum:
    """Cumulative sum of the evidence in the p-values of one statistic, for m statistics side by side.

    ``z = InvNormal(1 - p)``, ``S = max(0, S + z - k)``; the alarm goes on at ``S > h`` and off when S is zero again. As
    undrifted traffic starts over from zero after an alarm, alarms come on once in ARL0 windows plus the alarm's length.
    S is kept at h at most, so that an alarm ends within about h / k windows after the traffic is as it was.

    Source: E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954) 100.

    Args:
        k: allowance, scalar or [m], > 0.
        h: threshold, scalar or [m], > 0: ``cusum_threshold(arl0, k)``, or both from ``cusum_design``.
        count: m >= 1.
    """

    __slots__ = ("_alarmed", "_sums", "_windows", "h", "k")

    def __init__(self, k: ArrayLike, h: ArrayLike, count: int) -> None:
        shape = (count,)
        self._sums: Array = np.zeros(shape)
        self._windows = np.zeros(shape, dtype=np.int64)
        self._alarmed = np.zeros(shape, dtype=np.bool_)
        self.k: Array
        self.h: Array
        self.tune(k, h)

    def tune(self, k: ArrayLike, h: ArrayLike) -> None:
        """Other k and h from now on, as when windows fill faster or replicas are added. What was summed up is kept."""
        shape = self._sums.shape
        self.k = np.broadcast_to(np.asarray(k, dtype=np.float64), shape)
        self.h = np.broadcast_to(np.asarray(h, dtype=np.float64), shape)
        if not np.all((self.k > 0) & (self.h > 0)):
            raise ValueError(f"k and h must be positive, not {self.k} and {self.h}")
        self._sums = np.minimum(self._sums, self.h)

    def update(self, p: ArrayLike) -> Array:
        """Takes one window's p-values [m]; NaN where there is none.

        Returns:
            S [m] of this window before it is cut at h: how far outside. ``alarmed`` says which alarms are on.
        """
        checked = _checked(p)
        judged = ~np.isnan(checked)
        z = -ndtri(np.maximum(checked, P_FLOOR))
        evidence = np.where(judged, np.maximum(0.0, self._sums + z - self.k), self._sums)
        running = evidence > 0
        self._windows = np.where(judged, np.where(running, self._windows + 1, 0), self._windows)
        self._alarmed = np.where(judged, running & (self._alarmed | (evidence > self.h)), self._alarmed)
        self._sums = np.minimum(evidence, self.h)
        return evidence

    @property
    def sums(self) -> Array:
        """S after the last window [m], between 0 and h."""
        return self._sums.copy()

    @property
    def alarmed(self) -> NDArray[np.bool_]:
        """Whether each alarm is on [m]."""
        return self._alarmed.copy()

    @property
    def windows(self) -> NDArray[np.int64]:
        """Judged windows since S was last zero [m]: how many windows ago the change is likely to have been."""
        return self._windows.copy()

    def state(self) -> CusumState:
        """What is to be kept across a restart."""
        return CusumState(self._sums.tolist(), self._windows.tolist(), self._alarmed.tolist())

    def restore(self, state: CusumState) -> None:
        """Goes on from a kept state.

        Raises:
            ValueError: the state is of another number of statistics.
        """
        sums = np.array(state.sums, dtype=np.float64)
        windows, alarmed = np.array(state.windows, dtype=np.int64), np.array(state.alarmed, dtype=np.bool_)
        if not sums.shape == windows.shape == alarmed.shape == self._sums.shape:
            raise ValueError(f"the state is of shape {sums.shape}, the rule of shape {self._sums.shape}")
        self._sums, self._windows, self._alarmed = np.minimum(sums, self.h), windows, alarmed


def _checked(p: ArrayLike) -> Array:
    values = np.asarray(p, dtype=np.float64)
    if np.any((values < 0) | (values > 1)):
        raise ValueError(f"p-values lie in [0, 1], not {values}")
    return values
