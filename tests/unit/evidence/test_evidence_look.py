"""From taps to evidence. Covered: stages, lost memory, other revisions, stable without traffic, contracts and batch
sizes, spaces, golden probes, monitors, pairs remembered and explained, health before traffic, and when a comparison
starts."""

from dataclasses import replace

import pytest

from latentry_operator.api.rollout import Gates
from latentry_operator.plan.evidence import Reading, Remembered, changes, look
from latentry_operator.plan.evidence_compare import Carry, compare_next, incomparable
from latentry_operator.plan.rollout.facts import Bounded, Evidence, Latent, ProbeResult, Reconstruction
from latentry_serving.contract.contract_report import LatentBaseline
from latentry_serving.contract.manifest import Datatype
from latentry_serving.contract.metrics import ProbeOutcome
from latentry_serving.contract.operations import Operation


@pytest.fixture
def reading(said, words):
    def at(now: float, stable: int | None, candidate: int | None, stage: str = "v2/1.0", **more) -> Reading:
        """Requests that each revision's one tap has counted; None for one that is silent."""
        uptime = 1000 + now
        old = {"s": said(stable, uptime=uptime, contract=words.contract(words.stable))} if stable is not None else {}
        new = (
            {"c": said(candidate, uptime=uptime, contract=words.contract(words.candidate))}
            if candidate is not None
            else {}
        )
        return Reading(stage, now, "v1", "v2", old, new, **more)

    return at


def test_without_a_candidate_nothing_is_known_or_remembered(reading) -> None:
    known, _ = look(Remembered(), reading(0, 5, 5))
    assert look(known, reading(1, 6, 6, stage="")) == (Remembered(), Evidence())


def test_counts_of_a_stage(reading) -> None:
    known, evidence = look(Remembered(), reading(0, 100, 5))
    assert (evidence.stage, evidence.traffic.requests, evidence.stable_traffic.requests) == ("v2/1.0", 0, 0)
    known, evidence = look(known, reading(1, 190, 15))
    assert (evidence.traffic.requests, evidence.stable_traffic.requests) == (10, 90)
    # The stage changed after that look: what came since belongs to the new one.
    known, evidence = look(known, reading(2, 200, 40, stage="v2/2.0"))
    assert (evidence.stage, evidence.traffic.requests, evidence.stable_traffic.requests) == ("v2/2.0", 25, 10)
    assert look(Remembered(), reading(3, 300, 90, stage="v2/2.0"))[1].traffic.requests == 0  # memory was lost


def test_another_candidate_begins_from_nothing(reading, words) -> None:
    known, _ = look(Remembered(), reading(0, 100, 5))
    known, evidence = look(known, replace(reading(1, 110, 50, stage="v3/0.0"), candidate_revision="v3"))
    assert (evidence.traffic.requests, evidence.stable_traffic.requests) == (0, 0)


@pytest.mark.parametrize(("during", "expected"), [(400, 1_000_400), (5_000, 5_000)])
def test_where_stable_serves_nobody_its_time_before_counts(reading, during: int, expected: int) -> None:
    known, _ = look(Remembered(), reading(0, 1_000_000, 0, stage="v2/0.0"))
    known, _ = look(known, reading(1, 1_000_000 + during, 0, stage="v2/0.0"))
    _, evidence = look(known, reading(2, 1_000_000 + during + 3, 70, stage="v2/1.0", stable_serves=False))
    assert (evidence.traffic.requests, evidence.stable_traffic.requests) == (70, expected)


def test_a_dead_stable_revision_keeps_its_counts_and_contract(reading) -> None:
    known, _ = look(Remembered(), reading(0, 100, 0))
    known, before = look(known, reading(1, 150, 10))
    _, evidence = look(known, reading(2, None, 20))
    assert (evidence.stable_traffic.requests, evidence.traffic.requests) == (50, 20)
    assert evidence.changes == before.changes == ()
    assert evidence.stable_monitor is None


def test_the_first_revision_has_nothing_to_be_compared_with(reading) -> None:
    _, evidence = look(Remembered(), replace(reading(0, None, 5), stable_revision=""))
    assert (evidence.stable_traffic, evidence.changes, evidence.pairs) == (None, None, None)


def test_contracts(words) -> None:
    old = words.contract(words.stable)
    assert changes(old, words.contract(words.candidate)) == ()
    for told in (None, words.contract(words.candidate, batch=None)):
        assert changes(old, told) is None
        assert changes(told, old) is None
    renamed = changes(old, words.contract(words.candidate, model="other"))
    assert [(one.path, one.breaking) for one in renamed] == [("operations.encode.model", True)]
    smaller, larger = (changes(old, words.contract(words.candidate, batch=size))[0] for size in (4, 16))
    assert (smaller.path, smaller.breaking) == ("operations.encode.maxBatchSize", True)
    assert not larger.breaking
    assert changes(old, words.contract(words.candidate, space="b"))[0].path == "embeddingSpace"


def test_spaces_and_golden_probes(said, words) -> None:
    stable = {"s": said(contract=words.contract(words.stable))}
    bad = said(contract=words.contract(words.candidate, space="b"), probe=ProbeOutcome.NON_FINITE)
    good = said(probe=ProbeOutcome.PASSED)
    _, evidence = look(Remembered(), Reading("v2/0.0", 0, "v1", "v2", stable, {"a": good, "b": bad}))
    assert (evidence.stable_space, evidence.candidate_space) == ("a", "b")
    assert [(fact.operation, fact.result) for fact in evidence.golden] == [("encode", ProbeResult.FAILED)]


def test_scores_since_the_stage_began(said) -> None:
    def at(now: float, scored: int, anomalous: int) -> Reading:
        return Reading("v2/1.0", now, "v1", "v2", {}, {"c": said(scores=(scored, anomalous), uptime=100 + now)})

    known, _ = look(Remembered(), at(0, 50, 5))
    _, evidence = look(known, at(1, 80, 7))
    assert (evidence.monitor.scored, evidence.monitor.anomalous) == (30, 2)


@pytest.fixture
def with_comparison(said, words):
    def at(comparison, stable: bool = True, **more) -> Reading:
        old = {"s": said(contract=words.contract(words.stable))} if stable else {}
        new = {"c": said(contract=words.contract(words.candidate), comparison=comparison)}
        return Reading("v2/0.0", 0.0, "v1", "v2", old, new, **more)

    return at


def test_pairs_and_why_there_are_none(with_comparison, words) -> None:
    known, evidence = look(Remembered(), with_comparison(None, problem="stable is mute"))
    assert (evidence.pairs, evidence.pairs_problem) == (None, "stable is mute")
    done = words.comparison("done", words.result("alignable", map_bytes=99))
    known, evidence = look(known, with_comparison(done, urls={"c": "http://c"}))
    assert (evidence.pairs.count, evidence.pairs.cosine.low) == (80, 0.985)
    assert (evidence.pairs.norm_ratio.low, evidence.pairs.not_finite) == (0.985, 0)
    assert evidence.pairs.map_uri == "http://c/compare/map.npy"
    for nothing in (None, words.comparison("failed"), words.comparison("done", words.result(), digest=words.candidate)):
        assert look(known, with_comparison(nothing))[1].pairs == evidence.pairs
    assert look(known, with_comparison(words.comparison("failed")))[1].pairs_problem == "why"


def test_embeddings_that_are_not_finite_reach_the_gate(with_comparison, words) -> None:
    done = words.comparison("done", words.result("undecided", pairs=0, not_finite=40))
    evidence = look(Remembered(), with_comparison(done))[1]
    assert (evidence.pairs.count, evidence.pairs.not_finite) == (0, 40)


def test_a_comparison_with_another_bundle_says_nothing(with_comparison, words) -> None:
    other = words.comparison("done", words.result(), digest=words.candidate)
    assert look(Remembered(), with_comparison(other))[1].pairs is None


START = Carry("s", "c")


@pytest.mark.parametrize(
    ("state", "space", "ago", "expected"),
    [
        ("idle", None, None, START),
        ("running", None, None, None),
        ("failed", None, 5.0, None),
        ("failed", None, 16.0, START),
        ("failed", "undecided", 16.0, START),
        ("done", "same", 9_999.0, None),
        ("done", "reindex", 9_999.0, None),
        ("done", "undecided", 59.0, None),
        ("done", "undecided", 61.0, START),
    ],
)
def test_when_a_comparison_starts(with_comparison, words, state, space, ago, expected) -> None:
    result = words.result(space) if space else None
    digest = words.stable if state != "idle" else None
    given = with_comparison(words.comparison(state, result, ago, digest))
    assert compare_next(given.stable, given.candidate, Gates()) == expected


def gates(**sections) -> Gates:
    return Gates.model_validate(sections)


def test_a_declared_new_space_is_compared_once_for_what_is_no_matter_of_the_space(said, words) -> None:
    stable = {"s": said(contract=words.contract(words.stable))}

    def following(ratio: float, limit: float = 1.5, *, space: str = "new") -> Carry | None:
        result = words.result("undecided").model_copy(update={"reconstruction": words.reconstruction(ratio)})
        comparison = words.comparison("done", result, 61.0)
        candidate = said(contract=words.contract(words.candidate, space=space), comparison=comparison)
        return compare_next(stable, {"c": candidate}, gates(health={"maxErrorRatio": limit}))

    assert compare_next(stable, {"c": said(contract=words.contract(words.candidate, space="new"))}, Gates()) == START
    assert following(1.0) is None
    assert following(3.0) is None, "surely too large: nothing is open"
    assert following(1.6) == START, "the bounds have the limit between them"
    assert following(1.6, limit=1.8) is None
    assert following(1.0, space="a") == START


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"shape": (-1,)}, ""),
        ({"name": "z"}, "takes other inputs"),
        ({"datatype": Datatype.BYTES}, "takes x in another form"),
        ({"shape": (5,)}, "takes x in another form"),
        ({"shape": (4, 1)}, "takes x in another form"),
    ],
)
def test_inputs_that_the_candidate_does_not_take(words, change, why) -> None:
    old, new = (words.contract(digest).contract for digest in (words.stable, words.candidate))
    encode = new.operations[Operation.ENCODE]
    inputs = (encode.inputs[0].model_copy(update=change),)
    changed = {Operation.ENCODE: encode.model_copy(update={"inputs": inputs})}
    assert why in incomparable(old, new.model_copy(update={"operations": changed}))
    assert bool(why) == bool(incomparable(old, new.model_copy(update={"operations": changed})))


def test_inputs_that_nobody_can_carry(words) -> None:
    text = words.contract(words.stable, datatype=Datatype.BYTES).contract
    assert "BYTES (x) cannot be carried" in incomparable(text, text)


def test_what_the_health_gate_judges_by(reading, said, words) -> None:
    scored = words.reconstruction(1.2, not_finite=3)
    result = words.result().model_copy(update={"reconstruction": scored})
    baselines = LatentBaseline(dimensions=4, active=3), LatentBaseline(dimensions=4, active=0)
    olds, news = (
        words.contract(digest).model_copy(update={"baseline": baseline})
        for digest, baseline in zip((words.stable, words.candidate), baselines, strict=True)
    )
    given = replace(
        reading(0, 5, 5),
        stable={"s": said(contract=olds)},
        candidate={"c": said(contract=news, comparison=words.comparison("done", result))},
    )
    _, evidence = look(Remembered(), given)
    assert (evidence.stable_latent, evidence.candidate_latent) == (Latent(4, 3, False), Latent(4, 0, False))
    assert evidence.incomparable == ""
    assert evidence.pairs is not None
    assert evidence.pairs.reconstruction == Reconstruction(
        80, scored.stable, scored.candidate, 0.0, Bounded(1.2, scored.ratio.low, scored.ratio.high), 3
    )
    _, before = look(Remembered(), replace(given, stable={}))
    assert (before.incomparable, before.stable_latent) == (None, None)


def test_when_no_comparison_starts(with_comparison, said, words) -> None:
    given = with_comparison(None)
    assert compare_next(given.stable, given.candidate, Gates()) == START
    assert compare_next({}, given.candidate, Gates()) is None
    assert compare_next(given.stable, {}, Gates()) is None
    off = {"enabled": False}
    assert compare_next(given.stable, given.candidate, gates(compatibility=off)) == START
    assert compare_next(given.stable, given.candidate, gates(health=off)) == START
    assert compare_next(given.stable, given.candidate, gates(health=off, compatibility=off)) is None
    text = {"c": said(contract=words.contract(words.candidate, datatype=Datatype.BYTES))}
    assert compare_next(given.stable, text, Gates()) is None
    mute = {"c": said(contract=words.contract(words.candidate, batch=None))}
    assert compare_next(given.stable, mute, Gates()) is None
    running = given.candidate | {"d": said(comparison=words.comparison("running", ago=None))}
    assert compare_next(given.stable, running, Gates()) is None
    old = with_comparison(words.comparison("done", words.result(), 5.0, words.candidate))
    assert compare_next(old.stable, old.candidate, Gates()) == START
