"""Lays out a Triton model repository for one machine from a bundle, without touching the bundle.

Graphs are linked, never copied. Where Triton has no onnxruntime backend, each model becomes the generic model of the
python backend, which runs the same graph.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.manifest import REPOSITORY_FOLDER, BundleManifest, Datatype
from latentry_serving.triton.install import TritonInstall
from latentry_serving.triton.model_config import (
    CONFIG_FILE,
    PYTHON_BACKEND,
    DynamicBatching,
    InstanceGroup,
    InstanceKind,
    ModelConfig,
    Warmup,
)

THREADS_PARAMETER = "intra_op_thread_count"
"""Read by Triton's onnxruntime backend and by the generic model alike."""
GRAPH_LEVEL_PARAMETER = "graph_optimisation_level"
"""Read by the generic model."""

_GENERIC_MODEL = Path(__file__).with_name("onnx_model.py")
_UNSERVED = (Datatype.BYTES, Datatype.BF16)
"""What numpy 2 and the wheel's stub cannot hand to each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOverrides:
    """What the deployment decides instead of the bundle. None keeps the bundle's value."""

    instances: int | None = None
    """Copies of each model that run side by side."""
    max_batch_size: int | None = None
    """Rows in one execution."""
    max_queue_delay_us: int | None = None
    """Longest time in microseconds a request waits for others to share its batch."""
    kind: InstanceKind | None = None
    """Where instances run."""
    threads: int = 1
    """Threads one execution of the graph may use. With 1, throughput comes from instances and batches."""


def write_local_repository(
    bundle_dir: Path,
    manifest: BundleManifest,
    target_dir: Path,
    install: TritonInstall,
    overrides: RuntimeOverrides | None = None,
) -> tuple[str, ...]:
    """Writes the repository Triton is started with; what an earlier call left in ``target_dir`` is replaced.

    Args:
        bundle_dir: the unpacked bundle; only read.
        manifest: the bundle's manifest; its contract names the models.
        target_dir: becomes the model repository.
        install: decides which backend runs the graphs.
        overrides: what the deployment changes.

    Returns:
        The model names, in the contract's order.

    Raises:
        InvalidInput: the bundle lacks a model the contract names, its configuration cannot be read, or an override
            does not fit it.
        OperationFailed: the target cannot be written.
    """
    overrides = overrides or RuntimeOverrides()
    source = bundle_dir / REPOSITORY_FOLDER
    names = tuple(entry.model for entry in manifest.contract.operations.values())
    configs = {name: _read(source / name, name) for name in names}
    written = {name: _for_backend(override(config, overrides), overrides, install) for name, config in configs.items()}
    try:
        if target_dir.exists():
            shutil.rmtree(target_dir)
        for name, config in written.items():
            _write_model(source / name, target_dir / name, config)
    except OSError as error:
        raise OperationFailed(
            f"cannot write the model repository {target_dir}: {error.strerror}",
            remedy="give a folder that can be written, on a disk with free space",
        ) from error
    return names


def override(config: ModelConfig, overrides: RuntimeOverrides) -> ModelConfig:
    """The configuration with the deployment's values. Batch preferences and warm-ups are kept within the batch size.

    Raises:
        InvalidInput: a batch size for a model that does not batch.
    """
    changes: dict[str, object] = {
        "instances": InstanceGroup(
            count=overrides.instances or config.instances.count, kind=overrides.kind or config.instances.kind
        )
    }
    limit = overrides.max_batch_size or config.max_batch_size
    if overrides.max_batch_size is not None and config.max_batch_size == 0:
        raise InvalidInput.one(
            config.name,
            path="runtime.maxBatchSize",
            problem=f"is {overrides.max_batch_size}, but the model does not batch (max_batch_size is 0)",
            remedy="leave it out, or rebuild the bundle with a batch dimension",
        )
    changes["max_batch_size"] = limit
    changes["warmup"] = tuple(_within(entry, limit) for entry in config.warmup)
    batching = config.dynamic_batching
    if batching is not None or overrides.max_queue_delay_us is not None:
        given = batching or DynamicBatching()
        delay = overrides.max_queue_delay_us
        changes["dynamic_batching"] = DynamicBatching(
            max_queue_delay_us=given.max_queue_delay_us if delay is None else delay,
            preferred_batch_sizes=tuple(size for size in given.preferred_batch_sizes if size <= limit),
        )
    return config.model_copy(update=changes)


def _within(warmup: Warmup, limit: int) -> Warmup:
    return warmup.model_copy(update={"batch_size": min(warmup.batch_size, max(limit, 1))})


def _for_backend(config: ModelConfig, overrides: RuntimeOverrides, install: TritonInstall) -> ModelConfig:
    parameters = {**config.parameters, THREADS_PARAMETER: str(overrides.threads)}
    if install.has_onnxruntime:
        return config.model_copy(update={"parameters": parameters})
    for tensor in (*config.inputs, *config.outputs):
        if tensor.datatype in _UNSERVED:
            raise InvalidInput.one(
                config.name,
                path=f"tensor {tensor.name}",
                problem=f"{tensor.datatype} cannot be served by the local python backend",
                remedy="use a Triton with the onnxruntime backend (nvcr.io/nvidia/tritonserver), or another datatype",
            )
    if config.optimisation is not None and config.optimisation.graph_level is not None:
        parameters[GRAPH_LEVEL_PARAMETER] = str(config.optimisation.graph_level)
    kind = InstanceKind.CPU if config.instances.kind is InstanceKind.AUTO else config.instances.kind
    return config.model_copy(
        update={
            "backend": PYTHON_BACKEND,
            "platform": "",
            "optimisation": None,
            "instances": InstanceGroup(count=config.instances.count, kind=kind),
            "parameters": parameters,
        }
    )


def _read(folder: Path, name: str) -> ModelConfig:
    path = folder / CONFIG_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput.one(
            str(folder.parent.parent),
            path=f"{REPOSITORY_FOLDER}/{name}/{CONFIG_FILE}",
            problem=f"cannot be read ({error})",
            remedy="rebuild the bundle, or fetch it again",
        ) from error
    return ModelConfig.from_pbtxt(text, subject=str(path))


def _write_model(source: Path, target: Path, config: ModelConfig) -> None:
    target.mkdir(parents=True)
    (target / CONFIG_FILE).write_text(config.to_pbtxt(), encoding="utf-8")
    for version in sorted(path for path in source.iterdir() if path.is_dir() and path.name.isdigit()):
        folder = target / version.name
        folder.mkdir()
        for file in sorted(version.iterdir()):
            (folder / file.name).symlink_to(file.resolve())
        if config.backend == PYTHON_BACKEND:
            (folder / "model.py").symlink_to(_GENERIC_MODEL)
