"""A recorded stream is judged today as it was when it was recorded, up to rounding.

``files/profile`` was fitted once: an embedding with a dead and a binary dimension, and one with hour-of-day slots.
``files/judgements.json`` holds what every window of the stream below was said to be: scores, p-values, alarms, and what
explains them. Both are of the first version of the kernel; a faster one may differ in the last digits of float32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentry_serving.drift.detector import Detector
from latentry_serving.drift.profile import Profile
from latentry_serving.drift.types import Settings, WindowResult

FILES = Path(__file__).parent / "files"
WINDOW, DIMENSIONS = 300, 24
HOUR = 3600.0


def rows(seed: int, count: int, hour: float = 0.0) -> np.ndarray:
    """[count, 24] vectors whose first dimensions follow the hour; one dimension is dead and one binary."""
    rng = np.random.Generator(np.random.PCG64(seed))
    mix = np.random.Generator(np.random.PCG64(99)).standard_normal((6, DIMENSIONS))
    made = rng.standard_normal((count, 6)) @ mix + 0.5 * rng.standard_normal((count, DIMENSIONS)) + 3
    made[:, :4] += 4 * np.sin(2 * np.pi * hour / 24)
    made[:, 5], made[:, 6] = 1.5, made[:, 6] > 3
    return made.astype(np.float32)


def stream() -> list[tuple[str, np.ndarray, float]]:
    """Tensor, vectors and time of every batch: undrifted, shifted, wider, doubled, stuck, not finite, few."""
    changes = [
        lambda x: x, lambda x: x, lambda x: x + 0.4, lambda x: 1.5 * x, lambda x: np.concatenate([x[:200], x[:100]]),
        lambda x: np.where(np.arange(DIMENSIONS) == 9, 2.0, x), lambda x: np.where(x > 9, np.nan, x), lambda x: x[:120],
        lambda x: 1e15 * x, lambda x: x,
    ]  # fmt: skip
    batches = []
    for index, change in enumerate(changes):
        for tensor, hour in (("embedding", 0.0), ("cyclic", 6.0 + 12 * (index % 2))):
            given = change(rows(1000 + index, WINDOW, hour)).astype(np.float32)
            begin = 86_400.0 * index + HOUR * hour
            pieces = np.array_split(given, [1, 60, 61, 250] if index % 2 else [256])
            batches += [(tensor, piece, begin + 10.0 * n) for n, piece in enumerate(pieces)]
    return batches


def told(result: WindowResult) -> dict[str, Any]:
    """A window's result as JSON."""
    window = result.window
    return {
        "tensor": window.tensor,
        "size": window.size,
        "scores": {s.statistic.value: [s.score, float(np.log(s.p))] for s in result.scores},
        "alarms": [[a.statistic.value, a.rule.value, a.value, a.threshold] for a in result.alarms],
        "ended": [s.value for s in result.ended],
        "counted": [window.non_finite, window.duplicates, int(window.stuck.sum()), int(window.woken.sum())],
        "bins": window.bin_counts.sum(axis=0).tolist(),
        "moments": [
            float(np.sum(moment * np.arange(1, moment.size + 1)))
            for moment in (window.mean, window.second_moment, window.subspace_mean, window.subspace_second_moment)
        ],
        "logs": [window.residual_energy_log, window.norm_log],
    }


def judgements() -> list[dict[str, Any]]:
    settings = Settings(window=WINDOW, expected_run_time_s=30 * 86_400.0, max_wait_s=HOUR)
    detector = Detector(Profile.load(FILES / "profile"), settings)
    results = [told(r) for tensor, given, now_s in stream() for r in detector.update(tensor, given, now_s)]
    return results + [told(r) for r in detector.tick(86_400.0 * 20)]


def test_the_recorded_stream_is_judged_as_it_was() -> None:
    recorded = json.loads((FILES / "judgements.json").read_text(encoding="utf-8"))
    found = judgements()
    assert len(found) == len(recorded) >= 20
    for now, before in zip(found, recorded, strict=True):
        exact = ("tensor", "size", "ended", "counted", "bins")
        assert {key: now[key] for key in exact} == {key: before[key] for key in exact}
        assert [alarm[:2] for alarm in now["alarms"]] == [alarm[:2] for alarm in before["alarms"]]
        assert now["scores"].keys() == before["scores"].keys()
        for statistic, expected in before["scores"].items():
            assert now["scores"][statistic] == pytest.approx(expected, rel=2e-3, abs=2e-3), statistic
        for key in ("moments", "logs"):
            assert now[key] == pytest.approx(before[key], rel=1e-4, abs=1e-4, nan_ok=True), key
        assert [a[2:] for a in now["alarms"]] == [pytest.approx(a[2:], rel=2e-3, abs=1e-12) for a in before["alarms"]]
