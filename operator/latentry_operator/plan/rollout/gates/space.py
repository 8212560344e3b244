"""The compatibility gate: do the candidate's vectors still match an index that was built with stable's?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentry_operator.api.rollout import CompatibilityGate
from latentry_operator.plan.rollout.facts import Bounded, Pairs
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, failed, no_report, passed, waits
from latentry_operator.plan.rollout.reasons import GateName, GateReason

_GATE = GateName.COMPATIBILITY
_DECLARE = "To serve it all the same, name another embeddingSpace in the bundle, or `latentry rollout promote`"


def compatibility(given: GateInput) -> GateResult | None:
    """Same space, alignable, or re-index needed; another space that is not declared waits for people."""
    rules, evidence = given.policy.gates.compatibility, given.evidence
    if not rules.enabled:
        return None
    if not given.stable:
        return passed(_GATE, GateReason.NO_STABLE, "there is no stable revision whose vectors are in use")
    old, new = evidence.stable_space, evidence.candidate_space
    if not (old and new):
        return no_report(_GATE, "its embedding space")
    pairs = evidence.pairs
    if pairs is not None and pairs.not_finite:
        return failed(
            _GATE,
            GateReason.NOT_FINITE,
            f"{pairs.not_finite} of {pairs.count + pairs.not_finite} embeddings hold NaN or infinity where the stable"
            " revision's are finite",
        )
    if old != new:
        return passed(
            _GATE,
            GateReason.NEW_SPACE_DECLARED,
            f"the bundle declares the new space {new} in place of {old}: index with its vectors only, and let no"
            " client mix the two",
        )
    if pairs is None or pairs.count < pairs.needed:
        have = f"{pairs.count} of {pairs.needed}" if pairs is not None else "no"
        why = evidence.pairs_problem or "more come with golden inputs and sampled traffic"
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"{have} inputs were encoded by both revisions; {why}")
    return _judged(pairs, rules)


@dataclass(frozen=True, slots=True)
class _Limit:
    """What a figure must be, and by its bounds surely is or is not."""

    what: str
    figure: Bounded
    least: float
    most: float = math.inf

    @property
    def outside(self) -> bool:
        return self.figure.high < self.least or self.figure.low > self.most

    @property
    def inside(self) -> bool:
        return self.least <= self.figure.low and self.figure.high <= self.most

    @property
    def allowed(self) -> str:
        return f"{self.least:g}" if self.most == math.inf else f"{self.least:g} to {self.most:g}"


def _judged(pairs: Pairs, rules: CompatibilityGate) -> GateResult:
    cosine = _Limit("mean cosine", pairs.cosine, rules.min_paired_cosine)
    overlap = _Limit("neighbour overlap", pairs.overlap, rules.min_neighbour_overlap)
    recall = _Limit("cross-version recall", pairs.recall, rules.min_cross_recall)
    lengths = _Limit("ratio of norms", pairs.norm_ratio, 1 / rules.max_norm_ratio, rules.max_norm_ratio)
    limits = (cosine, overlap, recall, lengths)
    if any(one.outside for one in limits):
        return _other_space(pairs, limits, lengths, rules.min_cross_recall)
    enough = _resolves(pairs.count, rules.min_cross_recall)
    open_ = [one for one in (limits if enough else (cosine, lengths)) if not one.inside]
    if open_:
        told = "; ".join(
            f"{one.what} {_figure(one.figure)} is not surely {one.allowed}{' or more' if one is not lengths else ''}"
            for one in open_
        )
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"{pairs.count} pairs leave it open: {told}")
    told = "; ".join(
        f"{one.what} {one.figure.value:.4g}, {'at least ' if one is not lengths else ''}{one.allowed} is needed"
        for one in limits
    )
    if not enough:
        told += "; so few pairs can disprove overlap and recall but not show them: more golden inputs or samples would"
    return passed(_GATE, GateReason.SAME_SPACE, f"same space on {pairs.count} pairs: {told}")


def _resolves(pairs: int, least: float) -> bool:
    """Whether so many pairs without a miss would show such a recall, at 95 %; fewer can only disprove it."""
    return float(0.025 ** (1 / max(1, pairs))) >= least


def _other_space(pairs: Pairs, limits: Sequence[_Limit], lengths: _Limit, least: float) -> GateResult:
    short = [one for one in limits if one.outside]
    told = "; ".join(f"{one.what} {_figure(one.figure)} where {one.allowed} is needed" for one in short)
    aligned = pairs.aligned_recall
    if aligned is not None and aligned.low >= least and lengths.inside:
        where = f"; the map is at {pairs.map_uri}" if pairs.map_uri else ""
        return failed(
            _GATE,
            GateReason.ALIGNABLE,
            f"another space, but alignable, on {pairs.count} pairs: {told}; after an orthogonal map, on pairs it was"
            f" not fitted on, cross-version recall is {_figure(aligned)}{where}. {_DECLARE}",
            hold=True,
        )
    if lengths.outside:
        remedy = "" if len(short) > 1 else "rescale the embeddings or "
        told += f". An orthogonal map keeps lengths: {remedy}make stored vectors anew"
    else:
        after = f"; after an orthogonal map it is {_figure(aligned)}" if aligned is not None else ""
        # Not fitted, or not judged on enough pairs: the map is neither shown nor ruled out.
        unless = ", unless more inputs show that a map mends it" if aligned is None or aligned.high >= least else ""
        told += f"{after}: stored vectors must be made anew{unless}"
    message = f"another space on {pairs.count} pairs: {told}. {_DECLARE}"
    return failed(_GATE, GateReason.REINDEX_NEEDED, message, hold=True)


def _figure(figure: Bounded) -> str:
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
