"""``latentry profile fit``: the same bundle with a profile from data given later, sealed anew."""

import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from latentry_serving.bundle.profiling import ProfileData, add_profile, too_few
from latentry_serving.bundle.progress import Progress, Steps
from latentry_serving.bundle.reference import match_inputs
from latentry_serving.bundle.store import file_entries, staged, verify_files
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import MANIFEST_FILE, PROFILE_FOLDER, BundleManifest
from latentry_serving.contract.operations import Operation
from latentry_serving.drift_cli.inputs import FIELD, Inputs


def with_profile(
    bundle_dir: Path,
    inputs: Inputs,
    window: int,
    *,
    out_dir: Path,
    force: bool = False,
    progress: Progress | None = None,
    warn: Callable[[str], object],
) -> BundleManifest:
    """Copies a bundle and gives it a profile in place of the one it may have; graphs and golden calls stay as they are.

    Args:
        inputs: undrifted, in the order of the traffic.
        out_dir: where the new bundle goes; must not exist, or with ``force`` be a bundle.

    Raises:
        InvalidInput: no whole bundle; inputs that are too few, not finite, out of the contract's range, or on which an
            operation fails.
    """
    steps = Steps(3, progress)
    steps.begin("checking the bundle")
    manifest = verify_files(bundle_dir)
    encode = manifest.contract.operations[Operation.ENCODE]
    arrays = match_inputs(
        inputs.arrays,
        encode.inputs,
        samples=1,
        reduction=manifest.contract.reconstruction_error,
        subject="profile",
        field=FIELD,
    )
    problem = too_few(inputs.rows, window)
    if problem is not None:
        raise InvalidInput("profile", [problem])
    with staged(out_dir, force=force) as staging:
        shutil.copytree(bundle_dir, staging, dirs_exist_ok=True)
        shutil.rmtree(staging / PROFILE_FOLDER, ignore_errors=True)
        (staging / MANIFEST_FILE).unlink()
        steps.begin("fitting the profile")
        data = ProfileData(arrays, inputs.times_s, window, inputs.digests)
        add_profile(staging, manifest.contract, data, steps, warn)
        steps.begin("sealing")
        kept = {role: digest for role, digest in manifest.provenance.sources.items() if not role.startswith("profile/")}
        sources = kept | {f"profile/{role}": digest for role, digest in inputs.digests.items()}
        tools = manifest.provenance.tools | {"scipy": metadata.version("scipy")}
        provenance = manifest.provenance.model_copy(update={"sources": sources, "tools": tools})
        sealed = manifest.model_copy(update={"files": file_entries(staging), "provenance": provenance})
        (staging / MANIFEST_FILE).write_bytes(sealed.to_bytes())
    return sealed
