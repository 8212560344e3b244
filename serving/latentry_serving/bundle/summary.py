"""A bundle at a glance, typed: what ``latentry bundle inspect`` shows."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict

from latentry_serving.bundle.normalise import opset_of
from latentry_serving.bundle.profile import BundleProfile, load_profile
from latentry_serving.bundle.store import file_digest, load_manifest
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import (
    MANIFEST_FILE,
    REPOSITORY_FOLDER,
    Contract,
    Golden,
    Provenance,
    Sha256,
    TensorSpec,
)
from latentry_serving.contract.operations import Operation
from latentry_serving.triton.model_config import CONFIG_FILE, MODEL_FILE, MODEL_VERSION, ModelConfig


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class OperationSummary(_Frozen):
    """One operation: how to call it, and what runs."""

    model: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    max_queue_delay_us: int
    instances: int
    opset: int
    nodes: int
    bytes: int
    """Graph and weights on disk."""


class TensorProfileSummary(_Frozen):
    """One watched tensor: what it is judged by, and what the fit said about it."""

    name: str
    dimensions: int
    dead_dimensions: int
    windows: int
    """Of the calibration."""
    hour_slots: int
    statistics: tuple[str, ...]
    notes: tuple[str, ...]


class ProfileSummary(_Frozen):
    """What the bundle's traffic is held against."""

    window: int
    samples: int
    tensors: tuple[TensorProfileSummary, ...]
    health: tuple[str, ...]
    """Which health baselines there are."""

    @property
    def shared_notes(self) -> tuple[str, ...]:
        """Every note once, with the tensors it is about where it is not about all."""
        about: dict[str, list[str]] = {}
        for tensor in self.tensors:
            for note in tensor.notes:
                about.setdefault(note, []).append(tensor.name)
        return tuple(
            note if len(names) == len(self.tensors) else f"{', '.join(names)}: {note}" for note, names in about.items()
        )


class BundleSummary(_Frozen):
    """One bundle."""

    name: str
    version: str
    digest: Sha256
    files: int
    bytes: int
    contract: Contract
    operations: dict[Operation, OperationSummary]
    golden: Golden
    profile: ProfileSummary | None
    provenance: Provenance


def summarise(bundle_dir: Path) -> BundleSummary:
    """Describes a bundle without running or verifying it.

    Raises:
        InvalidInput: no bundle, or one whose configurations or graphs cannot be read.
    """
    manifest = load_manifest(bundle_dir)
    return BundleSummary(
        name=manifest.name,
        version=manifest.version,
        digest=file_digest(bundle_dir / MANIFEST_FILE),
        files=len(manifest.files),
        bytes=manifest.total_bytes,
        contract=manifest.contract,
        operations={
            operation: _operation(bundle_dir, contract.model, contract.inputs, contract.outputs)
            for operation, contract in manifest.contract.operations.items()
        },
        golden=manifest.golden,
        profile=_profile(load_profile(bundle_dir, manifest)),
        provenance=manifest.provenance,
    )


def _profile(profile: BundleProfile | None) -> ProfileSummary | None:
    if profile is None:
        return None
    tensors = tuple(
        TensorProfileSummary(
            name=name,
            dimensions=tensor.reference.dimensions,
            dead_dimensions=tensor.report.dead_dimensions,
            windows=tensor.report.windows,
            hour_slots=tensor.slots,
            statistics=tuple(str(statistic) for statistic in tensor.statistics),
            notes=tensor.report.notes,
        )
        for name, tensor in profile.drift.tensors.items()
    )
    samples = max(tensor.report.vectors for tensor in profile.drift.tensors.values())
    return ProfileSummary(window=profile.window, samples=samples, tensors=tensors, health=tuple(profile.health.present))


def read_config(bundle_dir: Path, model: str) -> ModelConfig:
    """A model's configuration; raises InvalidInput when it is missing or cannot be read."""
    path = bundle_dir / REPOSITORY_FOLDER / model / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(bundle_dir, path, error) from error
    return ModelConfig.from_pbtxt(text, subject=str(path))


def _operation(
    bundle_dir: Path, model: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> OperationSummary:
    config = read_config(bundle_dir, model)
    folder = bundle_dir / REPOSITORY_FOLDER / model / MODEL_VERSION
    try:
        graph = onnx.load(folder / MODEL_FILE, load_external_data=False)
        size = sum(path.stat().st_size for path in folder.iterdir())
    except (OSError, ValueError, DecodeError) as error:
        raise _unreadable(bundle_dir, folder / MODEL_FILE, error) from error
    batching = config.dynamic_batching
    return OperationSummary(
        model=model,
        inputs=inputs,
        outputs=outputs,
        max_batch_size=config.max_batch_size,
        max_queue_delay_us=batching.max_queue_delay_us if batching else 0,
        instances=config.instances.count,
        opset=opset_of(graph),
        nodes=len(graph.graph.node),
        bytes=size,
    )


def _unreadable(bundle_dir: Path, path: Path, error: Exception) -> InvalidInput:
    return InvalidInput.one(
        str(bundle_dir),
        path=path.relative_to(bundle_dir).as_posix(),
        problem=f"cannot be read: {error}",
        remedy="fetch the bundle again, or rebuild it",
    )
