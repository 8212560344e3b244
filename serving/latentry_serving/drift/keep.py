"""What a detector remembers beside its open windows, as JSON: another process goes on from it.

An alarm that is on is kept with its times and its window's size; what the window held is not, so it is explained when
it is raised and not again.
"""

from typing import Any

import numpy as np

from latentry_serving.drift.types import Alarm, Reference, Rule, Statistic, WindowScore, WindowSummary

State = dict[str, Any]


def kept_score(score: WindowScore | None) -> list[Any] | None:
    """A score as JSON; ``restored_score`` reads it."""
    return None if score is None else [score.statistic.value, score.score, score.p, score.size]


def restored_score(kept: list[Any] | None) -> WindowScore | None:
    """Raises ValueError when it is none."""
    if kept is None:
        return None
    statistic, score, p, size = kept
    return WindowScore(Statistic(statistic), float(score), float(p), int(size))


def kept_alarm(alarm: Alarm | None) -> State | None:
    """An alarm as JSON; ``restored_alarm`` reads it."""
    if alarm is None:
        return None
    window = alarm.window
    return {
        "statistic": alarm.statistic.value,
        "rule": alarm.rule.value,
        "since_s": alarm.since_s,
        "raised_s": alarm.raised_s,
        "value": alarm.value,
        "threshold": alarm.threshold,
        "window": {"opened_s": window.opened_s, "closed_s": window.closed_s, "size": window.size},
    }


def restored_alarm(kept: State | None, tensor: str, reference: Reference) -> Alarm | None:
    """The alarm, its window without moments (zeros). Raises ValueError or KeyError when it is none."""
    if kept is None:
        return None
    given = kept["window"]
    window = _without_moments(tensor, reference, float(given["opened_s"]), float(given["closed_s"]), int(given["size"]))
    return Alarm(
        tensor=tensor,
        statistic=Statistic(kept["statistic"]),
        rule=Rule(kept["rule"]),
        since_s=float(kept["since_s"]),
        raised_s=float(kept["raised_s"]),
        value=float(kept["value"]),
        threshold=float(kept["threshold"]),
        window=window,
    )


def _without_moments(tensor: str, reference: Reference, opened_s: float, closed_s: float, size: int) -> WindowSummary:
    d, k = reference.basis.shape
    return WindowSummary(
        tensor=tensor,
        opened_s=opened_s,
        closed_s=closed_s,
        size=size,
        mean=np.zeros(d),
        second_moment=np.zeros(d),
        bin_counts=np.zeros(reference.bin_shares.shape, np.int64),
        expected_mean=np.zeros(d),
        expected_bins=reference.bin_shares.astype(np.float64),
        subspace_mean=np.zeros(k),
        subspace_second_moment=np.zeros(k),
        residual_energy_log=float("nan"),
        norm_log=float("nan"),
        non_finite=0,
        duplicates=0,
        stuck=np.zeros(d, np.bool_),
        woken=np.zeros(d, np.bool_),
    )
