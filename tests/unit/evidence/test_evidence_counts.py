"""Counts since a stage began. Covered: deltas, restarts of taps and of the analysis process, replicas that come, go,
fall silent and return, more replicas than are remembered, histograms, and that whatever happens no request counts
twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentry_operator.plan import evidence_counts
from latentry_operator.plan.evidence_counts import Counts, Seen, fresh, merged
from latentry_operator.plan.rollout.facts import Histogram, Traffic


def figures(counts: Counts) -> tuple[int, int]:
    return counts.traffic.requests, counts.traffic.errors


def test_counts_begin_with_the_stage(said) -> None:
    tally = fresh({"a": said(10, 2)}, 0.0)
    assert figures(tally.total()) == (0, 0)
    tally = tally.look({"a": said(15, 3, cancelled=4, uptime=101)}, 1.0)
    assert figures(tally.total()) == (6, 1)
    assert sum(tally.total().traffic.latency.counts) == 5


def test_a_restarted_tap_loses_nothing_that_was_seen(said) -> None:
    tally = fresh({"a": said(10)}, 0.0).look({"a": said(30, uptime=101)}, 1.0)
    tally = tally.look({"a": said(5, 1, uptime=3)}, 8.0)
    assert figures(tally.total()) == (26, 1)
    tally = tally.look({"a": said(7, 1, uptime=4)}, 9.0)
    assert figures(tally.total()) == (28, 1)


def test_a_restart_shows_in_counters_that_fall_as_well(said) -> None:
    tally = fresh({"a": said(10, uptime=1)}, 0.0).look({"a": said(4, uptime=50)}, 60.0)
    assert figures(tally.total()) == (4, 0)


def test_a_silent_replica_keeps_what_it_had_and_goes_on(said) -> None:
    tally = fresh({"a": said(10)}, 0.0).look({"a": said(20, uptime=101)}, 1.0).look({}, 2.0)
    assert figures(tally.total()) == (10, 0)
    assert figures(tally.look({"a": said(40, uptime=103)}, 3.0).total()) == (30, 0)


def test_a_replica_younger_than_the_stage_counts_from_its_start_an_older_one_from_now(said) -> None:
    tally = fresh({}, 100.0)
    tally = tally.look({"young": said(7, uptime=5), "old": said(1000, uptime=500)}, 110.0)
    assert figures(tally.total()) == (7, 0)
    assert figures(tally.look({"old": said(1003, uptime=501)}, 111.0).total()) == (10, 0)


def test_the_next_stage_begins_with_the_look_before_it(said) -> None:
    tally = fresh({"a": said(10)}, 0.0).look({"a": said(20, uptime=101)}, 1.0).next_stage()
    assert figures(tally.total()) == (0, 0)
    tally = tally.look({"a": said(26, 6, uptime=103), "b": said(3, uptime=1)}, 3.0)
    assert figures(tally.total()) == (15, 6)


def test_scores_that_begin_anew_leave_requests_alone(said) -> None:
    tally = fresh({"a": said(10, scores=(10, 1))}, 0.0)
    tally = tally.look({"a": said(20, scores=(25, 3), uptime=101)}, 1.0)
    tally = tally.look({"a": said(22, scores=(4, 1), uptime=102)}, 2.0)
    total = tally.total()
    assert (total.traffic.requests, total.scored, total.anomalous) == (12, 19, 3)


def test_of_very_many_replicas_the_silent_ones_become_one_sum(said, monkeypatch) -> None:
    monkeypatch.setattr(evidence_counts, "MOST_REPLICAS", 3)
    tally = fresh({}, 0.0)
    for number in range(20):
        tally = tally.look({f"pod-{number}": said(2, uptime=0.5)}, 1.0 + number)
    assert len(tally.replicas) <= 3
    assert figures(tally.total()) == (40, 0)


def test_histograms_of_one_grid() -> None:
    one, two = Histogram((1, 2, 4), (5, 6)), Histogram((8, 16), (7,))
    assert merged((one, two)) == Histogram((1, 2, 4, 8, 16), (5, 6, 0, 7))
    assert merged(()) == Histogram()


STEPS = st.lists(st.tuples(st.sampled_from(["serve", "restart", "silent"]), st.integers(0, 50)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_never_more_than_happened_and_all_that_was_seen(steps) -> None:
    seen, happened, lost, unseen = Seen(1.0, Counts(), Counts()), 0, 0, 0
    counter, uptime = 0, 1.0
    for what, requests in steps:
        uptime += 1.0
        if what == "restart":
            counter, uptime, lost, unseen = 0, seen.uptime / 2, lost + unseen, 0
        counter, happened, unseen = counter + requests, happened + requests, unseen + requests
        if what != "silent":
            seen, unseen = seen.again(uptime, Counts(Traffic(counter, 0))), 0
        assert seen.total().traffic.requests == happened - lost - unseen


@pytest.mark.parametrize("gap", [1.0, 1000.0])
def test_one_of_two_restarts(said, gap: float) -> None:
    tally = fresh({"a": said(10), "b": said(10)}, 0.0)
    tally = tally.look({"a": said(20, uptime=100 + gap), "b": said(1, uptime=gap / 2)}, gap)
    assert figures(tally.total()) == (11, 0)
