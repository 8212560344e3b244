"""The health gate: does the candidate work as well as stable? Judged before traffic, whatever its embedding space is.

It fails for what is surely worse and waits only for a comparison that can be had: where there is nothing to compare by
(no decoder, no profile, few inputs) it says so and passes, and the drift gate judges with traffic.
"""

from latentry_operator.plan.rollout.facts import Latent, Pairs, Reconstruction
from latentry_operator.plan.rollout.gates.result import GateInput, GateResult, failed, no_report, passed, waits
from latentry_operator.plan.rollout.reasons import GateName, GateReason

_GATE = GateName.HEALTH


def health(given: GateInput) -> GateResult | None:
    """Fails for a collapsed latent, far fewer active units or a larger reconstruction error than stable's."""
    rules, evidence = given.policy.gates.health, given.evidence
    if not rules.enabled:
        return None
    if not given.stable:
        return passed(_GATE, GateReason.NO_STABLE, "there is no stable revision that it could be worse than")
    if evidence.incomparable is None:
        return no_report(_GATE, "its contract")
    new, old = evidence.candidate_latent, evidence.stable_latent
    if fault := _latent(new, old, rules.min_active_units):
        return fault
    told = [_units(new)] if new is not None else []
    if evidence.incomparable:
        told.append(f"nothing else is compared: {evidence.incomparable}")
    elif evidence.pairs is None:
        why = evidence.pairs_problem or "both revisions get the same inputs"
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"no inputs were given to both revisions yet; {why}")
    else:
        verdict, line = _reconstruction(evidence.pairs, rules.max_error_ratio)
        if verdict is not None:
            return verdict
        told.append(line)
    return passed(_GATE, GateReason.AS_HEALTHY, "; ".join(told))


def _latent(new: Latent | None, old: Latent | None, least: float) -> GateResult | None:
    """What the candidate's own profile says against it; what a stable revision is like too is no reason to stay."""
    if new is None or (old is not None and not old.active):
        return None
    stable = f"the stable revision has {_units(old)}" if old is not None else "the stable revision's are not known"
    if not new.active:
        remedy = "Train with a smaller KL weight" if new.variational else "Look at the encoder's last layers"
        return failed(
            _GATE,
            GateReason.COLLAPSED,
            f"{_units(new)} over its own reference, at least 1 is needed ({stable}): its embeddings say nothing about"
            f" the input. {remedy} and rebuild the bundle",
        )
    if not (new.variational and old is not None and old.variational):
        return None
    # A smaller latent has fewer units, a larger one a smaller share of them: only both together are a loss.
    kept, share = new.active / old.active, new.active * old.dimensions / (new.dimensions * old.active)
    if max(kept, share) >= least:
        return None
    return failed(
        _GATE,
        GateReason.TOO_FEW_ACTIVE_UNITS,
        f"{_units(new)} over its own reference, {stable}: {100 * kept:.3g} % of their number and {100 * share:.3g} % of"
        f" their share, {100 * least:.3g} % of one of the two is needed. Train with a smaller KL weight, or set"
        " gates.health.minActiveUnits",
    )


def _units(latent: Latent) -> str:
    what = "active units" if latent.variational else "dimensions that are not dead"
    return f"{latent.active} of {latent.dimensions} {what}"


def _reconstruction(pairs: Pairs, most: float) -> tuple[GateResult | None, str]:
    """A verdict that is no pass, or a line about the pass."""
    found = pairs.reconstruction
    if found is None:
        return None, "no reconstruction errors are compared: not both revisions have a score that means the same"
    if found.not_finite:
        total = found.count + found.not_finite
        message = (
            f"{found.not_finite} of {total} reconstruction errors are NaN or infinite, the stable revision's finite"
        )
        return failed(_GATE, GateReason.NOT_FINITE, message), ""
    if found.count < pairs.needed:
        return None, f"{found.count} inputs are too few to compare reconstruction errors, {pairs.needed} are needed"
    told = f"{_figures(found)}, at most {most:g} times is allowed"
    if found.ratio.low > most:
        remedy = "Compare how the two were trained; if it is meant to be so, set gates.health.maxErrorRatio"
        return failed(_GATE, GateReason.RECONSTRUCTS_WORSE, f"{told}. {remedy}"), ""
    if found.ratio.value > most:
        more = "more golden inputs (golden.samples) or sampled ones (sampling.liveInputs) will tell"
        return waits(_GATE, GateReason.TOO_FEW_PAIRS, f"{told}: {found.count} inputs leave it open, {more}"), ""
    return None, told


def _figures(found: Reconstruction) -> str:
    ratio, floor = found.ratio, found.unavoidable
    times = f"{ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g}) times"
    beyond = f", {floor:.4g} of it unavoidable" if floor else ""
    means = f"mean {found.candidate:.4g} instead of {found.stable:.4g}{beyond}"
    return f"reconstruction error {times} the stable revision's on the same {found.count} inputs ({means})"
