"""The compatibility gate: do the candidate's vectors still match an index that was built with stable's?"""

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
    if old != new:
        return passed(
            _GATE,
            GateReason.NEW_SPACE_DECLARED,
            f"the bundle declares the new space {new} in place of {old}: index with its vectors only, and let no"
            " client mix the two",
        )
    pairs = evidence.pairs
    if pairs is None or pairs.count < pairs.needed:
        have = f"{pairs.count} of {pairs.needed}" if pairs is not None else "no"
        why = evidence.pairs_problem or "more come with golden inputs and sampled traffic"
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"{have} inputs were encoded by both revisions; {why}")
    limits = (
        ("mean cosine", pairs.cosine, rules.min_paired_cosine),
        ("neighbour overlap", pairs.overlap, rules.min_neighbour_overlap),
        ("cross-version recall", pairs.recall, rules.min_cross_recall),
    )
    short = [(what, figure, least) for what, figure, least in limits if figure.high < least]
    if short:
        told = "; ".join(f"{what} {_figure(figure)} where {least:g} is needed" for what, figure, least in short)
        return _other_space(pairs, told, rules.min_cross_recall)
    shown = limits if _resolves(pairs.count, rules.min_cross_recall) else limits[:1]
    open_ = [(what, figure, least) for what, figure, least in shown if figure.low < least]
    if open_:
        told = "; ".join(f"{what} {_figure(figure)} is not surely {least:g} or more" for what, figure, least in open_)
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"{pairs.count} pairs leave it open: {told}")
    told = "; ".join(f"{what} {figure.value:.4g}, at least {least:g} is needed" for what, figure, least in limits)
    if shown is not limits:
        told += "; so few pairs can disprove overlap and recall but not show them: more golden inputs or samples would"
    return passed(_GATE, GateReason.SAME_SPACE, f"same space on {pairs.count} pairs: {told}")


def _resolves(pairs: int, least: float) -> bool:
    """Whether so many pairs without a miss would show such a recall, at 95 %; fewer can only disprove it."""
    return float(0.025 ** (1 / max(1, pairs))) >= least


def _other_space(pairs: Pairs, told: str, least: float) -> GateResult:
    aligned = pairs.aligned_recall
    if aligned is not None and aligned.low >= least:
        where = f"; the map is at {pairs.map_uri}" if pairs.map_uri else ""
        return failed(
            _GATE,
            GateReason.ALIGNABLE,
            f"another space, but alignable, on {pairs.count} pairs: {told}; after an orthogonal map, on pairs it was"
            f" not fitted on, cross-version recall is {_figure(aligned)}{where}. {_DECLARE}",
            hold=True,
        )
    after = f"; after an orthogonal map it is {_figure(aligned)}" if aligned is not None else ""
    # Not fitted, or not judged on enough pairs: the map is neither shown nor ruled out.
    unless = ", unless more inputs show that a map mends it" if aligned is None or aligned.high >= least else ""
    return failed(
        _GATE,
        GateReason.REINDEX_NEEDED,
        f"another space on {pairs.count} pairs: {told}{after}: stored vectors must be made anew{unless}. {_DECLARE}",
        hold=True,
    )


def _figure(figure: Bounded) -> str:
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
