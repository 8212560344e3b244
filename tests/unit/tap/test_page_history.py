"""The ring behind `/history`. Covered: one point per judged window, windows that share a point, alarms that part them,
what is asked for again, the bound, a process that begins anew, silence, and the keeper that reads the desk."""

import sys

import pytest

from latentry_serving.contract.drift_report import (
    DriftReport,
    DriftState,
    MonitoringReport,
    StatisticDrift,
    TensorDrift,
    Watching,
)
from latentry_serving.contract.history import POINTS, SPACING_SECONDS, DriftHistory
from latentry_serving.contract.tap_config import DriftSettings, Sampling, TapConfig
from latentry_serving.tap.analysis_frames import write_report
from latentry_serving.tap.history import HistoryBook, HistoryKeeper
from latentry_serving.tap.monitoring import MonitoringDesk, not_watching

FAR = SPACING_SECONDS


def statistic(name: str, windows: int, p: float | None = 0.5, evidence: float = 0.0, *, alarm: bool = False):
    return StatisticDrift(
        statistic=name, state=DriftState.ALARM if alarm else DriftState.OK, score=1.0, p_value=p, window_size=100,
        evidence=evidence, alpha=1e-5, cusum_k=1.0, cusum_h=5.0, windows=windows, alarm=None,
    )  # fmt: skip


def report(*statistics: StatisticDrift, tensor: str = "input") -> DriftReport:
    tensors = [
        TensorDrift(
            tensor=tensor, held=0, windows=1, insufficient_windows=0, seconds_since_full_window=0.0,
            window_seconds=1.0, statistics=list(statistics),
        )
    ]  # fmt: skip
    return DriftReport(
        state=Watching.WATCHING, detail="", alarm=False, sufficient=True, window=100,
        expected_run_time_seconds=1.0, replicas=1, tensors=tensors,
    )  # fmt: skip


@pytest.fixture
def book() -> HistoryBook:
    return HistoryBook(started_s=90.0)


def only(history: DriftHistory):
    (found,) = history.statistics
    return found


def test_a_judged_window_is_a_point_and_a_report_of_nothing_new_is_none(book: HistoryBook) -> None:
    book.add(100, report(statistic("t2", 0, None)))
    assert only(book.after(0, 100)).times_seconds == []
    book.add(101, report(statistic("t2", 1, 0.25, 0.5)))
    book.add(102, report(statistic("t2", 1, 0.25, 0.5)))
    history = book.after(0, 103)
    found = only(history)
    assert (history.now_seconds, history.since_seconds) == (103, 90)
    assert (found.tensor, found.statistic, found.times_seconds, found.windows) == ("input", "t2", [101], [1])
    assert (found.p_values, found.evidence, found.alphas, found.cusum_h, found.alarms) == (
        [0.25], [0.5], [1e-5], [5.0], [False],
    )  # fmt: skip


def test_windows_close_together_share_a_point_with_the_furthest_of_their_figures(book: HistoryBook) -> None:
    book.add(100, report(statistic("t2", 1, 0.5, 3.0)))
    book.add(104, report(statistic("t2", 3, 0.01, 1.0)))
    book.add(109, report(statistic("t2", 4, 0.2, 2.0)))
    found = only(book.after(0, 110))
    assert (found.times_seconds, found.windows, found.p_values, found.evidence) == ([109], [4], [0.01], [3.0])
    book.add(100 + FAR, report(statistic("t2", 5, 0.3, 0.0)))
    assert only(book.after(0, 120)).times_seconds == [109, 110]


def test_an_alarm_that_comes_or_goes_begins_a_point_in_all_statistics_of_its_tensor(book: HistoryBook) -> None:
    book.add(100, report(statistic("spe", 1), statistic("t2", 1)))
    book.add(101, report(statistic("spe", 2), statistic("t2", 2, 1e-9, alarm=True)))
    book.add(102, report(statistic("spe", 3), statistic("t2", 3)))
    history = book.after(0, 103)
    assert [(part.statistic, part.times_seconds) for part in history.statistics] == [
        ("spe", [100, 101, 102]), ("t2", [100, 101, 102]),
    ]  # fmt: skip
    assert history.statistics[1].alarms == [False, True, False]


def test_who_asks_from_a_spacing_before_gets_the_point_that_grew(book: HistoryBook) -> None:
    book.add(50, report(statistic("t2", 1)))
    book.add(100, report(statistic("t2", 2)))
    first = only(book.after(0, 100)).times_seconds
    book.add(109, report(statistic("t2", 3, 0.1)))
    asked = first[-1] - SPACING_SECONDS
    again = only(book.after(asked, 110))
    assert (again.times_seconds, again.p_values) == ([109], [0.1])
    assert [time for time in first if time <= asked] + again.times_seconds == only(book.after(0, 110)).times_seconds
    assert only(book.after(109, 110)).times_seconds == []


def test_the_oldest_points_give_way(book: HistoryBook) -> None:
    for index in range(POINTS + 7):
        book.add(1000 + FAR * index, report(statistic("t2", index + 1)))
    found = only(book.after(0, 1e6))
    assert len(found.times_seconds) == len(found.alarms) == POINTS
    assert (found.times_seconds[0], found.times_seconds[-1]) == (1000 + FAR * 7, 1000 + FAR * (POINTS + 6))
    (ring,) = book._rings.values()
    assert sys.getsizeof(ring._values) < 40_000, "64 bytes a point and what an array keeps in hand"


def test_a_process_that_began_anew_adds_to_what_was_there(book: HistoryBook) -> None:
    book.add(100, report(statistic("t2", 40)))
    book.add(200, report(statistic("t2", 0, None)))
    book.add(300, report(statistic("t2", 2)))
    assert only(book.after(0, 300)).windows == [40, 2]


def test_tensors_and_statistics_are_sorted(book: HistoryBook) -> None:
    book.add(100, report(statistic("t2", 1), statistic("norm", 1), tensor="input"))
    book.add(101, report(statistic("t2", 1), tensor="embedding"))
    found = [(part.tensor, part.statistic) for part in book.after(0, 101).statistics]
    assert found == [("embedding", "t2"), ("input", "norm"), ("input", "t2")]


def test_the_keeper_puts_down_what_the_desk_took_at_the_time_it_was_reported() -> None:
    config = TapConfig(bundle_dir="b", sampling=Sampling(max_per_second=1))
    desk = MonitoringDesk(config, lambda: 500.0)
    keeper = HistoryKeeper(desk, lambda: 500.0)
    keeper.look()
    assert keeper.after(0).statistics == [], "nothing was reported yet"
    health = not_watching(Watching.STARTING, 0.0, DriftSettings()).health
    for time_s, windows in ((450.0, 1), (470.0, 2)):
        line = MonitoringReport(reported_seconds=time_s, drift=report(statistic("t2", windows)), health=health)
        desk.take(write_report(line.model_dump_json(by_alias=True).encode(), str(windows).encode()))
        keeper.look()
        keeper.look()
    assert only(keeper.after(0)).times_seconds == [450.0, 470.0]
    assert keeper.after(0).since_seconds == 500.0
