"""Who is told of calls. Covered: nothing beside the SLIs unless asked for, a watcher that fails harms nobody, keys of
the configuration."""

import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.metrics import CallKind, Outcome, Protocol
from latentry_serving.contract.tap_config import Sampling, TapConfig
from latentry_serving.sli.book import SliBook
from latentry_serving.sli.calls import Call
from latentry_serving.tap.settings import load_config
from latentry_serving.tap.watchers import Listeners, Watchers


@pytest.fixture
def book():
    return SliBook((0.1,), ["encode"], started_s=0.0)


def tell(listener, sink=None) -> None:
    call = Call(Protocol.HTTP, "encode", CallKind.UNARY, 0.0, 0.5, 0.5, outcome=Outcome.OK)
    listener.call_begun(call)
    call.sink = sink
    listener.call_started(call)
    listener.call_finished(call)


@pytest.mark.parametrize(
    "config",
    [
        TapConfig(operations={"m": "encode"}),
        TapConfig(sampling=Sampling(max_per_second=50)),
    ],
    ids=["sampling off", "no contract"],
)
def test_without_samples_and_collector_the_book_listens_alone(config, book, monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    watchers = Watchers(config, book, lambda: 1.0, lambda: 1e9)
    assert watchers.listener is book
    assert watchers.samples is None


class Fragile:
    """Fails at one of the three occasions, and counts how often it was told."""

    def __init__(self, occasion):
        self.occasion = occasion
        self.told = 0

    def __getattr__(self, name):
        def tell(_call):
            self.told += 1
            if name == self.occasion:
                raise RuntimeError("a bug")

        return tell


@pytest.mark.parametrize("occasion", ["call_begun", "call_started", "call_finished"])
def test_a_watcher_that_fails_is_told_no_more_and_everybody_else_is(occasion, book):
    fragile, sturdy = Fragile(occasion), Fragile("never")
    listener = Listeners(book, [fragile, sturdy])
    tell(listener, sink=object())
    told = fragile.told
    tell(listener, sink=object())
    assert (fragile.told, sturdy.told) == (told, 6)
    book.settle()
    assert sum(part.requests for series in book.series for part in series.history.total()) == 2


def test_sampling_and_otlp_from_the_environment_and_their_problems():
    config = load_config(
        None,
        {
            "LATENTRY_TAP_SAMPLING": "{maxPerSecond: 5, rates: {encode: 0.5}, queue: {calls: 3}}",
            "LATENTRY_TAP_OTLP": "{endpoint: 'https://c:4317', rootRatio: 0.1}",
        },
    )
    assert (config.sampling.max_per_second, config.sampling.rates, config.sampling.queue.calls) == (
        5, {"encode": 0.5}, 3,
    )  # fmt: skip
    assert (config.otlp.endpoint, config.otlp.root_ratio) == ("https://c:4317", 0.1)
    bad = {
        "LATENTRY_TAP_SAMPLING": "{maxPerSecond: -1, rates: {encode: 2}}",
        "LATENTRY_TAP_OTLP": "{endpoint: 'collector:4317', colour: red}",
    }
    with pytest.raises(InvalidInput) as caught:
        load_config(None, bad)
    assert {problem.path for problem in caught.value.problems} == {
        "LATENTRY_TAP_OTLP: colour",
        "LATENTRY_TAP_OTLP: endpoint",
        "LATENTRY_TAP_SAMPLING: maxPerSecond",
        "LATENTRY_TAP_SAMPLING: rates.encode",
    }


def test_of_a_call_nobody_follows_watchers_hear_the_beginning_only(book):
    watcher = Fragile("never")
    tell(Listeners(book, [watcher]))
    assert watcher.told == 1
