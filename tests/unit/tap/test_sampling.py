"""Which calls become samples. Covered: the bucket's average and burst, rates per operation, choices before the
operation is known, tokens that go back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentry_serving.tap.sampling import Sampler, TokenBucket


@given(
    per_second=st.floats(0.1, 10_000),
    gaps_s=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_no_stretch_of_time_lets_more_through_than_average_and_burst(per_second, gaps_s):
    bucket, now_s, taken_at = TokenBucket(per_second, 0.0), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        taken_at += [now_s] * bucket.take(now_s)
    burst = max(1.0, per_second * 0.1)
    for first, start_s in enumerate(taken_at):
        for last in range(first, len(taken_at)):
            assert last - first + 1 <= burst + (taken_at[last] - start_s) * per_second + 1e-6


def test_steady_traffic_is_sampled_at_the_rate():
    bucket = TokenBucket(50, 0.0)
    assert sum(bucket.take(n / 1_000) for n in range(10_000)) == pytest.approx(500, abs=6)


def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens():
    bucket = TokenBucket(1, 10.0)
    assert bucket.take(10.0)
    assert not bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)


def sampler(rates, seed=0, per_second=1e9):
    dice = random.Random(seed)
    return Sampler(TokenBucket(per_second, 0.0), rates, frozenset({"encode", "score"}), dice.random)


def test_rates_hold_whether_the_operation_is_known_at_once_or_later():
    known, later = sampler({"score": 0.25}), sampler({"score": 0.25}, seed=1)
    for operation, share in (("encode", 1), ("score", 0.25), ("other", 0)):
        chosen = sum(known.choose(operation, n) for n in range(4_000))
        tickets = [later.choose_unknown(n) for n in range(4_000)]
        confirmed = sum(ticket is not None and later.confirm(ticket, operation) for ticket in tickets)
        assert chosen == pytest.approx(4_000 * share, abs=150)
        assert confirmed == pytest.approx(4_000 * share, abs=150)


def test_a_choice_that_is_not_confirmed_gives_its_token_back():
    one = sampler({}, per_second=1)
    ticket = one.choose_unknown(0.0)
    assert one.choose_unknown(0.0) is None
    assert not one.confirm(ticket, "other")
    assert one.choose("encode", 0.0)
    assert not one.choose("encode", 0.0)


def test_no_ticket_is_drawn_in_vain():
    none = sampler({"encode": 0, "score": 0})
    assert all(none.choose_unknown(n) is None for n in range(100))
    assert Sampler(TokenBucket(1, 0.0), {}, frozenset(), lambda: 0.0).choose_unknown(0.0) is None
