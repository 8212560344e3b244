"""Memory: news in any order, deletions, relists; promises and holdings of devices."""

from dataclasses import dataclass

from latentry_operator.kube.kinds import Key
from latentry_operator.kube.store import Store, version_of
from latentry_operator.runtime.ledger import PoolLedger


@dataclass(frozen=True)
class Thing:
    key: Key
    version: int


A, B = ("n", "a"), ("n", "b")
Seen = list[tuple[int | None, int | None, bool]]


def watched() -> tuple[Store[Thing], Seen]:
    seen: Seen = []
    store: Store[Thing] = Store(
        lambda before, after, ours: seen.append((before and before.version, after and after.version, ours))
    )
    return store, seen


def test_older_news_are_ignored() -> None:
    store, seen = watched()
    store.put(Thing(A, 5), ours=True)
    store.put(Thing(A, 4))
    store.put(Thing(A, 5))
    store.put(Thing(A, 6))
    assert seen == [(None, 5, True), (5, 6, False)]


def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    store, seen = watched()
    store.put(Thing(A, 5))
    store.drop(A, 7)
    store.put(Thing(A, 6), ours=True)
    assert store.get(A) is None
    store.put(Thing(A, 8))
    assert store.get(A) == Thing(A, 8)
    assert seen == [(None, 5, False), (5, None, False), (None, 8, False)]


def test_an_old_deletion_does_not_take_away_what_came_after() -> None:
    store, _ = watched()
    store.put(Thing(A, 9), ours=True)
    store.drop(A, 7)
    assert store.get(A) == Thing(A, 9)


def test_a_complete_list_removes_what_is_not_on_it_unless_it_is_newer() -> None:
    store, _ = watched()
    store.put(Thing(A, 3))
    store.put(Thing(B, 12), ours=True)
    store.keep_only([], 10)
    assert list(store) == [Thing(B, 12)]


def test_versions_that_are_no_numbers_are_older_than_all() -> None:
    assert [version_of(text) for text in ("17", "", "x1")] == [17, 0, 0]


def test_devices_in_use_are_held_or_promised_whichever_is_more() -> None:
    ledger = PoolLedger()
    assert ledger.promise(A, "a10", 2) == {"a10"}
    assert ledger.promise(A, "a10", 2) == set()
    assert ledger.in_use("a10", {A: 3, B: 1}) == {"n/a": 3, "n/b": 1}
    assert ledger.in_use("a10", {}) == {"n/a": 2}
    assert ledger.promise(A, "h200", 1) == {"a10", "h200"}
    assert ledger.in_use("a10", {A: 2}) == {"n/a": 2}  # its old pods still hold them
    assert ledger.release(A) == {"h200"}
    assert ledger.release(A) == set()
    assert ledger.in_use("h200", {}) == {}
