"""A bundle and a file of inputs, judged: what ``drift check`` and ``drift report`` share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latentry_serving.bundle.inference import Runner
from latentry_serving.bundle.profile import BundleProfile, load_profile
from latentry_serving.bundle.store import verify_files
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.operations import Operation
from latentry_serving.drift_cli.check import CheckSettings, Telling, judge_inputs, window_of
from latentry_serving.drift_cli.inputs import Inputs, read_inputs
from latentry_serving.drift_cli.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Tolerated:
    """How often to be wrong; see ``CheckSettings``, which adds the window."""

    false_alarms: float | None
    expected_run_time_s: float | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with all it rests on. ``values``: the watched tensors [n, d] of the inputs, in the inputs' order."""

    manifest: BundleManifest
    profile: BundleProfile
    file: Path
    inputs: Inputs
    values: Mapping[str, Array]
    settings: CheckSettings
    verdict: Verdict


def profiled(bundle: Path) -> tuple[BundleManifest, BundleProfile]:
    """A bundle's manifest and profile, its files checked.

    Raises:
        InvalidInput: no whole bundle, or one without a profile.
    """
    manifest = verify_files(bundle)
    profile = load_profile(bundle, manifest)
    if profile is None:
        raise InvalidInput.one(
            str(bundle),
            path="profile",
            problem="is missing: the bundle does not say what undrifted traffic looks like",
            remedy="add one with latentry profile fit, or build it with a larger reference (docs/drift.md)",
        )
    return manifest, profile


def judge_file(
    bundle: Path, file: Path, timestamps: str | None, window: int | None, tolerated: Tolerated, progress: Telling
) -> Judged:
    """Runs a file's inputs through the bundle's model and judges them against its profile.

    Args:
        timestamps: an .npy file beside it, or a column of it. window: inputs judged together, None: the profile's.

    Raises:
        InvalidInput, OperationFailed: bundle, inputs or settings that do not do; each says what to change.
    """
    manifest, profile = profiled(bundle)
    inputs = read_inputs(file, manifest.contract.operations[Operation.ENCODE].inputs, timestamps).ordered()
    settings = CheckSettings(
        window_of(profile, inputs.rows, window),
        tolerated.false_alarms,
        tolerated.expected_run_time_s,
        tolerated.rate,
    )
    values = Runner(bundle, manifest.contract).run(inputs.arrays, progress)
    verdict = judge_inputs(profile, values, settings, times_s=inputs.times_s, progress=progress)
    return Judged(manifest, profile, file, inputs, values, settings, verdict)
