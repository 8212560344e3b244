"""Classification and figures: paths to operations, statuses to outcomes, durations to quantiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol
from latentry_serving.sli.book import Buckets, SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.sli.catalogue import Catalogue
from latentry_serving.sli.histogram import LogHistogram
from latentry_serving.sli.outcome import (
    grpc_timeout_seconds,
    of_client_reset,
    of_grpc_status,
    of_http_status,
    of_missing_grpc_status,
)
from latentry_serving.sli.tally import WINDOW_SLOTS, History, added_up, window_seconds


@pytest.mark.parametrize(
    ("method", "target", "operation", "kind"),
    [
        (b"POST", b"/v2/models/digits_encode/infer", "encode", "unary"),
        (b"POST", b"/v2/models/digits_encode/versions/2/infer?x=1", "encode", "unary"),
        (b"POST", b"/v2/models/digits%5Fencode/infer", "encode", "unary"),
        (b"POST", b"http://host:8000/v2/models/digits_encode/generate", "encode", "unary"),
        (b"POST", b"/v2/models/digits_encode/generate_stream", "encode", "stream"),
        (b"POST", b"/v2/models/cats/infer", "other", "unary"),
        (b"POST", b"/v2/models/caf\xc3\xa9/infer", "other", "unary"),
        (b"GET", b"/v2/models/digits_encode/infer", "management", "unary"),
        (b"POST", b"/v2/models/digits_encode/infer/more", "management", "unary"),
        (b"POST", b"/v2/repository/index", "management", "unary"),
        (b"OPTIONS", b"*", "management", "unary"),
    ],
)
def test_http_targets(method, target, operation, kind):
    catalogue = Catalogue({"digits_encode": "encode"})
    assert catalogue.http(method, target) == catalogue.http(method, target) == (operation, CallKind(kind))


def test_any_number_of_targets_takes_bounded_memory():
    catalogue = Catalogue({})
    for number in range(5_000):
        assert catalogue.http(b"POST", b"/v2/models/m%d/infer" % number).operation == "other"
    assert len(catalogue._http_targets) <= 512


def test_grpc_paths():
    catalogue = Catalogue({})
    assert catalogue.grpc(b"/inference.GRPCInferenceService/ModelInfer") is CallKind.UNARY
    assert catalogue.grpc(b"/inference.GRPCInferenceService/ModelStreamInfer") is CallKind.STREAM
    assert catalogue.grpc(b"/inference.GRPCInferenceService/ServerLive") is None


def test_http_outcomes():
    assert [of_http_status(s) for s in (200, 304, 400, 429, 499, 500, 503)] == [
        Outcome.OK, Outcome.OK, Outcome.CLIENT_ERROR, Outcome.CLIENT_ERROR, Outcome.CLIENT_ERROR,
        Outcome.SERVER_ERROR, Outcome.SERVER_ERROR,
    ]  # fmt: skip


def test_grpc_outcomes():
    by_outcome = {outcome: {s for s in range(18) if of_grpc_status(s) is outcome} for outcome in Outcome}
    assert by_outcome[Outcome.OK] == {0}
    assert by_outcome[Outcome.CANCELLED] == {1}
    assert by_outcome[Outcome.DEADLINE_EXCEEDED] == {4}
    assert by_outcome[Outcome.SERVER_ERROR] == {2, 12, 13, 14, 15, 17}
    assert by_outcome[Outcome.CLIENT_ERROR] == {3, 5, 6, 7, 8, 9, 10, 11, 16}
    assert of_missing_grpc_status(200) is of_missing_grpc_status(503) is Outcome.SERVER_ERROR
    assert of_missing_grpc_status(404) is Outcome.CLIENT_ERROR


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"250m", 0.25), (b"99999999u", 99.999999), (b"5n", 5e-9),
     (b"", None), (b"S", None), (b"-1S", None), (b"1.5S", None), (b"123456789S", None), (b"5", None)],
)  # fmt: skip
def test_grpc_timeouts(header, seconds):
    assert grpc_timeout_seconds(header) == (None if seconds is None else pytest.approx(seconds))


def test_a_reset_at_the_deadline_is_the_deadline():
    assert of_client_reset(10.0, None) is Outcome.CANCELLED
    assert of_client_reset(0.5, 1.0) is Outcome.CANCELLED
    assert of_client_reset(0.999, 1.0) is Outcome.DEADLINE_EXCEEDED


@given(st.lists(st.floats(2e-6, 4_000), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_within_a_bucket_of_the_true_ones(durations, share):
    halves = LogHistogram(), LogHistogram()
    for index, duration in enumerate(durations):
        halves[index % 2].record(duration)
    halves[0].absorb(halves[1])
    (estimate,) = halves[0].quantiles([share])
    rank = max(-(-share * len(durations) // 1), 1)
    true = sorted(durations)[min(int(rank), len(durations)) - 1]
    assert estimate == pytest.approx(true, rel=1 / 64)


def test_a_histogram_is_bounded_and_takes_anything():
    histogram = LogHistogram()
    for exponent in range(-400, 400):
        for step in range(1, 9):
            histogram.record(step * 2.0**exponent)
    histogram.record(0.0)
    assert histogram.count == 800 * 8 + 1
    assert len(histogram._counts) <= 2048
    assert LogHistogram().quantiles([0.5, 0.9]) == [None, None]


def ok_call(seconds: float = 0.1) -> Call:
    return Call(Protocol.HTTP, "encode", CallKind.UNARY, 0.0, seconds / 2, seconds, 3, 5)


@given(st.lists(st.floats(0, 100), max_size=60))
def test_history_loses_nothing_and_keeps_a_minute(steps):
    history, now = History(), 0.0
    finished = []
    for step in steps:
        now += step
        finished.append(now)
        history.add(ok_call(), Outcome.OK, now)
    assert added_up(history.total()).requests == len(steps)
    assert len(history.recent(now)) <= WINDOW_SLOTS
    oldest = (now // 10 - 5) * 10
    assert added_up(history.recent(now)).requests == sum(at >= oldest for at in finished)


def test_the_window_is_at_most_a_minute_and_never_older_than_the_start():
    assert window_seconds(now_s=1_009.0, started_s=0.0) == 59
    assert window_seconds(now_s=1_009.0, started_s=1_000.0) == 9


def test_a_duration_at_a_bound_is_within_it():
    buckets = Buckets((0.05, 0.1))
    for seconds in (0.05, 0.0500001, 0.1, 7):
        buckets.record(seconds)
    assert buckets.counts == [1, 2, 1]


def test_in_flight_and_calls_lost_from_sight():
    book = SliBook((1.0,), [], started_s=0.0)
    call = ok_call()
    book.call_started(call)
    assert book.series[0].in_flight == 1
    book.call_finished(call)
    assert book.series[0].in_flight == 0
    assert added_up(book.series[0].history.total()).requests == 0, "no outcome, no count"
