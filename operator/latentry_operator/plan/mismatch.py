"""What a spec asks of a bundle that the bundle does not have."""

from collections.abc import Iterator

from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_serving.contract.errors import Problem
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.operations import Operation


def mismatches(spec: LatentModelSpec, bundle: BundleManifest) -> Iterator[Problem]:
    """Every point in which spec and bundle contradict each other, in the order of the spec's fields."""
    contract = bundle.contract
    what = f"bundle {bundle.name} {bundle.version}"
    if contract.family is not spec.family:
        problem = f"{spec.family}, but {what} holds an {contract.family}"
        yield Problem("spec.family", problem, f"write {contract.family} or name another bundle")
    if spec.bundle.digest is not None and spec.bundle.digest != bundle.digest:
        problem = f"{spec.bundle.digest}, but {what} has {bundle.digest}"
        yield Problem("spec.bundle.digest", problem, "write the bundle's digest, or fetch the bundle that was meant")
    if not contract.operations:
        yield Problem("spec.bundle.uri", f"{what} has no operation", "build it again with at least one graph")
    if spec.slo.quality is not None and Operation.SCORE not in contract.operations:
        have = ", ".join(contract.operations) or "none"
        problem = f"needs the operation score, {what} has {have}"
        yield Problem("spec.slo.quality", problem, "remove quality, or build the bundle with its decoder")
