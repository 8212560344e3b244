"""A bundle at a glance, typed: what ``latentry bundle inspect`` shows."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict

from latentry_serving.bundle.normalise import opset_of
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
        provenance=manifest.provenance,
    )


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
