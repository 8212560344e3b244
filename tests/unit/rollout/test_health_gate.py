"""The health gate: what is surely worse than stable fails before traffic; what is good, or cannot be told, is not held.
Covered: collapsed and half collapsed latents, smaller and larger ones, families, reconstruction errors on both sides of
the limit and across it, NaN, few inputs, no decoder, no profile, settings, and that traffic is not needed."""

from dataclasses import replace
from typing import Any

import pytest
from rollout_world import AS_GOOD, UNRELATED, WORSE, spec

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import Bounded, Evidence, Latent, Reconstruction, Running
from latentry_operator.plan.rollout.gates import GateInput, GateResult, before_traffic
from latentry_operator.plan.rollout.policy import policy_of
from latentry_operator.plan.rollout.reasons import GateReason

PASS, FAIL, WAIT = Verdict.PASS, Verdict.FAIL, Verdict.WAIT
GOOD = Evidence(
    changes=(),
    stable_space="a",
    candidate_space="b",
    pairs=replace(UNRELATED, reconstruction=AS_GOOD),
    incomparable="",
    stable_latent=Latent(16, 12, True),
    candidate_latent=Latent(16, 11, True),
)


def verdict(evidence: Evidence, *, stable: bool = True, rules: dict[str, Any] | None = None) -> GateResult:
    policy = policy_of(spec({"gates": {"health": rules or {}}}), weights=True, mirror=True)
    given = GateInput(evidence, policy, Running(1, 1), stable)
    return {result.gate: result for result in before_traffic(given)}["health"]


def scored(reconstruction: Reconstruction | None, **changes: Any) -> Evidence:
    return replace(GOOD, pairs=replace(UNRELATED, reconstruction=reconstruction), **changes)


def told(result: GateResult, expected: Verdict, reason: GateReason, *words: str) -> None:
    assert (result.verdict, result.reason) == (expected, reason), result.message
    for word in words:
        assert word in result.message
    assert not result.hold


def test_a_good_candidate_in_a_new_space_passes_with_its_figures() -> None:
    told(
        verdict(GOOD), PASS, GateReason.AS_HEALTHY,
        "11 of 16 active units; reconstruction error 1.01 (0.98 to 1.04) times the stable revision's on the same 200"
        " inputs (mean 0.0212 instead of 0.021), at most 1.5 times is allowed",
    )  # fmt: skip


def test_a_collapsed_one_fails_by_its_own_profile_before_anything_is_compared() -> None:
    collapsed = replace(GOOD, candidate_latent=Latent(16, 0, True), pairs=None)
    told(
        verdict(collapsed), FAIL, GateReason.COLLAPSED,
        "0 of 16 active units", "at least 1 is needed (the stable revision has 12 of 16 active units)", "KL weight",
    )  # fmt: skip


def test_an_encoder_whose_embeddings_never_change_fails() -> None:
    dead = replace(GOOD, candidate_latent=Latent(8, 0, False), stable_latent=Latent(8, 8, False), pairs=None)
    told(verdict(dead), FAIL, GateReason.COLLAPSED, "0 of 8 dimensions that are not dead")


def test_without_a_profile_of_stable_a_collapse_is_still_one() -> None:
    unknown = replace(GOOD, candidate_latent=Latent(16, 0, True), stable_latent=None)
    told(verdict(unknown), FAIL, GateReason.COLLAPSED, "the stable revision's are not known")


def test_what_the_stable_revision_is_like_too_is_no_reason_to_keep_it() -> None:
    both = replace(GOOD, candidate_latent=Latent(16, 0, True), stable_latent=Latent(16, 0, True))
    told(verdict(both), PASS, GateReason.AS_HEALTHY)


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ((16, 12), (16, 6), False),
        ((16, 12), (16, 5), True),
        ((16, 16), (4, 4), False),  # a smaller latent, all of it in use
        ((16, 16), (64, 16), False),  # a larger one with as many units
        ((16, 16), (64, 5), True),  # fewer, and a smaller part
        ((16, 16), (8, 2), True),
        ((32, 4), (8, 1), False),
    ],
)
def test_far_fewer_active_units_in_number_and_in_share(old: tuple[int, int], new: tuple[int, int], fails: bool) -> None:
    given = replace(GOOD, stable_latent=Latent(*old, True), candidate_latent=Latent(*new, True))
    if fails:
        told(verdict(given), FAIL, GateReason.TOO_FEW_ACTIVE_UNITS, f"{new[1]} of {new[0]} active units", "minActive")
    else:
        told(verdict(given), PASS, GateReason.AS_HEALTHY)


def test_how_many_active_units_are_enough_can_be_set() -> None:
    given = replace(GOOD, candidate_latent=Latent(16, 5, True))
    told(verdict(given, rules={"minActiveUnits": 0.4}), PASS, GateReason.AS_HEALTHY)
    told(verdict(GOOD, rules={"minActiveUnits": 1}), FAIL, GateReason.TOO_FEW_ACTIVE_UNITS, "91.7 %", "100 %")


def test_an_encoder_may_have_dead_dimensions() -> None:
    """A shorter vector, padded with zeros, is a good one."""
    padded = replace(GOOD, stable_latent=Latent(768, 768, False), candidate_latent=Latent(768, 256, False))
    told(verdict(padded), PASS, GateReason.AS_HEALTHY, "256 of 768 dimensions that are not dead")


def test_an_error_that_is_surely_too_large_fails() -> None:
    told(
        verdict(scored(WORSE)), FAIL, GateReason.RECONSTRUCTS_WORSE,
        "reconstruction error 3.2 (2.9 to 3.4) times", "at most 1.5 times is allowed", "gates.health.maxErrorRatio",
    )  # fmt: skip
    told(verdict(scored(WORSE), rules={"maxErrorRatio": 4}), PASS, GateReason.AS_HEALTHY)


def test_what_cannot_be_avoided_is_told() -> None:
    cross_entropy = replace(WORSE, stable=20.1, candidate=27.9, unavoidable=16.5)
    told(
        verdict(scored(cross_entropy)), FAIL, GateReason.RECONSTRUCTS_WORSE,
        "mean 27.9 instead of 20.1, 16.5 of it unavoidable",
    )  # fmt: skip


def test_across_the_limit_the_figure_decides_between_waiting_and_passing() -> None:
    above, below = (replace(AS_GOOD, ratio=Bounded(value, 0.9, 2.4)) for value in (1.6, 1.4))
    told(verdict(scored(above)), WAIT, GateReason.TOO_FEW_PAIRS, "200 inputs leave it open", "golden.samples")
    told(verdict(scored(below)), PASS, GateReason.AS_HEALTHY)


def test_errors_that_are_not_finite_fail() -> None:
    told(verdict(scored(replace(AS_GOOD, not_finite=5))), FAIL, GateReason.NOT_FINITE, "5 of 205 reconstruction errors")


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (scored(None), "not both revisions have a score that means the same"),
        (scored(replace(AS_GOOD, count=4, ratio=Bounded(2, 1.9, 2.1))), "4 inputs are too few"),
        (replace(GOOD, incomparable="inputs of type BYTES (text) cannot be carried", pairs=None), "of type BYTES"),
        (scored(AS_GOOD, candidate_latent=None, stable_latent=None), "reconstruction error 1.01"),
        (scored(AS_GOOD, stable_latent=None), "11 of 16 active units"),
    ],
)
def test_what_cannot_be_told_holds_nobody_and_is_said(evidence: Evidence, words: str) -> None:
    told(verdict(evidence), PASS, GateReason.AS_HEALTHY, words)


@pytest.mark.parametrize(
    ("evidence", "reason", "words"),
    [
        (Evidence(), GateReason.NOT_REPORTED, "its contract"),
        (replace(GOOD, pairs=None), GateReason.TOO_FEW_PAIRS, "both revisions get the same inputs"),
        (replace(GOOD, pairs=None, pairs_problem="stable's tap gives HTTP 503"), GateReason.TOO_FEW_PAIRS, "HTTP 503"),
    ],
)
def test_what_is_about_to_be_told_is_waited_for(evidence: Evidence, reason: GateReason, words: str) -> None:
    told(verdict(evidence), WAIT, reason, words)


def test_the_first_revision_is_worse_than_nobody() -> None:
    told(verdict(Evidence(), stable=False), PASS, GateReason.NO_STABLE)
