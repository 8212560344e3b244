"""What a file asks for: its LatentModels planned, each with its bundle checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_file
from latentry_operator.api.rollout import Strategy
from latentry_operator.local.bundles import local_bundle
from latentry_operator.local.snapshot import RevisionView
from latentry_operator.plan.planner import plan
from latentry_operator.plan.rollout.policy import Policy, policy_of
from latentry_operator.plan.types import Plan, PlanSettings
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import BundleManifest


@dataclass(frozen=True, slots=True)
class Wanted:
    """One revision of one model, and the rules by which it takes over.

    Attributes:
        plan: what to run.
        bundle_dir: the unpacked bundle; only read.
        manifest: its manifest.
        policy: the rollout's rules.
        notes: what of the spec is carried out otherwise on one machine.
    """

    plan: Plan
    bundle_dir: Path
    manifest: BundleManifest
    policy: Policy
    notes: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """The revision's name."""
        return self.plan.revision

    @property
    def view(self) -> RevisionView:
        """As the screen shows it."""
        return RevisionView(self.plan.revision, self.plan.version, self.plan.digest)


def wanted(model: LatentModel) -> Wanted:
    """Plans a model. Reads every file of its bundle.

    Raises:
        InvalidInput: the bundle is missing or not the promised one, or the spec does not fit it.
    """
    bundle_dir, manifest = local_bundle(model)
    policy = policy_of(model.spec, weights=False, mirror=False)
    return Wanted(plan(model, manifest, PlanSettings()), bundle_dir, manifest, policy, _notes(model))


def read_wanted(path: Path) -> Mapping[str, Wanted | InvalidInput]:
    """The models of one file by name, those that cannot be served with the reason.

    Raises:
        InvalidInput: the file cannot be read or holds something wrong.
    """
    found: dict[str, Wanted | InvalidInput] = {}
    for model in load_file(path):
        if isinstance(model, LatentModel):
            try:
                found[model.metadata.name] = wanted(model)
            except InvalidInput as error:
                found[model.metadata.name] = error
    return found


def _notes(model: LatentModel) -> tuple[str, ...]:
    rollout, notes = model.spec.rollout, []
    if rollout.strategy is Strategy.CANARY:
        notes.append("rollout.strategy Canary switches at once on one machine, as BlueGreen does")
    if rollout.shadow is not None:
        notes.append("rollout.shadow is left out: nothing copies requests on one machine")
    if rollout.gates.promql:
        notes.append(
            "rollout.gates.promql waits for ever, one machine asks no Prometheus: remove it, or promote by hand with"
            f" `latentry rollout promote {model.metadata.name}`"
        )
    return tuple(notes)
