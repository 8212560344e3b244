"""Classification and figures: paths to operations, statuses to outcomes, durations to quantiles."""

from itertools import accumulate
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentry_serving.contract.metrics import CallKind, Outcome, Protocol
from latentry_serving.sli.book import Buckets, Exemplar, SliBook
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
from latentry_serving.sli.tally import WINDOW_SLOTS, Batch, History, added_up, by_slot, window_seconds
from latentry_serving.sli.trace import TraceContext


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
    for half, part in zip(halves, (durations[::2], durations[1::2]), strict=True):
        half.record(part)
    halves[0].absorb(halves[1])
    (estimate,) = halves[0].quantiles([share])
    rank = max(-(-share * len(durations) // 1), 1)
    true = sorted(durations)[min(int(rank), len(durations)) - 1]
    assert estimate == pytest.approx(true, rel=1 / 64)


def test_a_histogram_is_bounded_and_takes_anything():
    histogram = LogHistogram()
    for exponent in range(-400, 400):
        histogram.record(step * 2.0**exponent for step in range(1, 9))
    histogram.record([0.0, -1.0, inf])
    assert histogram.count == 800 * 8 + 3
    assert (min(histogram._counts), max(histogram._counts)) == (0, 2047)
    assert len(histogram._counts) <= 2048
    assert LogHistogram().quantiles([0.5, 0.9]) == [None, None]


def ok_call(at: float = 0.1) -> Call:
    """Ended at ``at`` after a tenth of a second."""
    return Call(Protocol.HTTP, "encode", CallKind.UNARY, at - 0.1, at - 0.05, at, 3, 5, Outcome.OK)


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 20))
def test_history_loses_nothing_and_keeps_a_minute(steps, together):
    history, finished = History(), list(accumulate(steps))
    for start in range(0, len(finished), together):
        for slot, calls in by_slot([ok_call(at) for at in finished[start : start + together]]):
            history.add(slot, Batch.of(calls))
    total = added_up(history.total())
    assert (total.requests, total.latency.count, total.first_response.count) == (len(steps),) * 3
    assert (total.request_bytes, total.response_bytes) == (3 * len(steps), 5 * len(steps))
    now = max(finished, default=0.0)
    assert len(history.recent(now)) <= WINDOW_SLOTS
    oldest = (now // 10 - 5) * 10
    assert added_up(history.recent(now)).requests == sum(at >= oldest for at in finished)


def test_the_window_is_at_most_a_minute_and_never_older_than_the_start():
    assert window_seconds(now_s=1_009.0, started_s=0.0) == 59
    assert window_seconds(now_s=1_009.0, started_s=1_000.0) == 9


def test_a_duration_at_a_bound_is_within_it():
    buckets = Buckets((0.05, 0.1))
    buckets.record([0.05, 0.0500001, 0.1, 7])
    assert buckets.counts == [1, 2, 1]
    assert buckets.sum == pytest.approx(7.2)


def test_in_flight_and_calls_lost_from_sight():
    book = SliBook((1.0,), [], started_s=0.0)
    call = ok_call()
    call.outcome = None
    book.call_started(call)
    assert book.series[0].in_flight == 1
    book.call_finished(call)
    book.settle()
    assert book.series[0].in_flight == 0
    assert added_up(book.series[0].history.total()).requests == 0, "no outcome, no count"


def test_many_finished_calls_are_counted_without_being_asked_for():
    book = SliBook((1.0,), [], started_s=0.0)
    for _ in range(1_000):
        call = ok_call()
        book.call_started(call)
        book.call_finished(call)
    (series,) = book.series
    counted = added_up(series.history.total()).requests
    assert 1_000 - 256 < counted < 1_000, "what waits is bounded"
    book.settle()
    assert added_up(series.history.total()).requests == sum(series.latency.counts) == 1_000


def test_the_latest_sampled_call_illustrates_its_bucket():
    book = SliBook((0.2,), [], started_s=0.0)
    for at, trace_id, sampled, outcome in ((1.0, 7, True, Outcome.OK), (2.0, 8, True, Outcome.OK),
                                           (3.0, 9, False, Outcome.OK), (4.0, 10, True, Outcome.RESET)):  # fmt: skip
        call = ok_call(at)
        call.trace, call.outcome = TraceContext(trace_id, 1, sampled), outcome
        book.call_started(call)
        book.call_finished(call)
    book.settle()
    (series,) = book.series
    assert series.latency.exemplars == [Exemplar(8, pytest.approx(0.1), 2.0), None]
    assert series.first_response is None, "of streams only"
    together = Buckets.together([series.latency, series.latency])
    assert (together.counts, together.exemplars[0]) == (
        [2 * count for count in series.latency.counts],
        series.latency.exemplars[0],
    )
