"""Is a bundle what it promises? Every file, every graph, every golden output, the profile."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from latentry_serving.bundle.golden import replay
from latentry_serving.bundle.profile import load_profile
from latentry_serving.bundle.progress import Progress, Steps
from latentry_serving.bundle.store import file_digest, load_manifest, verify_files
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import MANIFEST_FILE, REPOSITORY_FOLDER, Sha256
from latentry_serving.contract.operations import Operation
from latentry_serving.triton.model_config import MODEL_FILE, MODEL_VERSION


class Verification(BaseModel):
    """What was checked and found good."""

    model_config = ConfigDict(frozen=True)

    digest: Sha256
    files: int
    bytes: int
    largest_differences: dict[Operation, float]
    """Per operation, the largest absolute difference from a golden output."""
    watched: tuple[str, ...]
    """Tensors of the profile; empty for a bundle without one."""


def verify_bundle(bundle_dir: Path, *, digest: str | None = None, progress: Progress | None = None) -> Verification:
    """Checks files against the manifest, runs every graph on its golden inputs with ONNX Runtime on the CPU, and
    loads the profile: whole, finite, of the contract's tensors and dimensions.

    Args:
        bundle_dir: the bundle.
        digest: the promised ``sha256:<hex>``, or None.
        progress: told of every step as it begins.

    Raises:
        InvalidInput: no bundle; files missing, changed or not listed; another digest; a graph that does not load or
            does not repeat its golden outputs within the tolerances; a profile of another model. Files are checked
            before anything is loaded.
    """
    steps = Steps(2 + len(load_manifest(bundle_dir).contract.operations), progress)
    steps.begin("checking every file")
    manifest = verify_files(bundle_dir, digest=digest)
    problems: list[Problem] = []
    differences: dict[Operation, float] = {}
    for operation, contract in manifest.contract.operations.items():
        steps.begin(f"replaying {operation}")
        tolerance = manifest.golden.tolerances.get(operation)
        if tolerance is None:
            problems.append(Problem(f"golden.tolerances.{operation}", "is missing", "rebuild the bundle"))
            continue
        graph = bundle_dir / REPOSITORY_FOLDER / contract.model / MODEL_VERSION / MODEL_FILE
        differences[operation], found = replay(bundle_dir, operation, contract, tolerance, graph)
        problems += found
    steps.begin("checking the profile")
    profile = None
    try:
        profile = load_profile(bundle_dir, manifest)
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput(str(bundle_dir), problems)
    return Verification(
        digest=file_digest(bundle_dir / MANIFEST_FILE),
        files=len(manifest.files),
        bytes=manifest.total_bytes,
        largest_differences=differences,
        watched=tuple(profile.drift.tensors) if profile is not None else (),
    )
