"""The artifacts of a build, read and checked: from files or from torch modules in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latentry_serving.bundle.artifact import ModelFile, find_artifact, source_digests
from latentry_serving.bundle.graph import Graph, check_graph, read_graph
from latentry_serving.bundle.normalise import strip
from latentry_serving.bundle.reference import ONLY_INPUT
from latentry_serving.bundle.spec import ArtifactFormat, BundleSpec
from latentry_serving.bundle.tensors import Array
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import Sha256, TensorSpec, digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch.nn import Module

    from latentry_serving.bundle.torch_export import TorchModel

ENCODER, DECODER = "encoder", "decoder"
_EXAMPLE_ROWS = 2  # torch takes a dimension of one for a constant


@dataclass(frozen=True, slots=True)
class Source:
    """One artifact, checked. ``torch`` is the original where it came from torch."""

    graph: Graph
    digests: dict[str, Sha256]
    torch: "TorchModel | None" = None


Reader = Callable[[Mapping[str, Array]], Source]
"""Example inputs of two rows, in the order the model takes them -> the artifact. Raises InvalidInput."""


def file_readers(spec: BundleSpec, base_dir: "Path", *, subject: str) -> dict[str, Reader]:
    """A reader for each artifact file of the spec.

    Raises:
        InvalidInput: files missing, pickles, or of another format than said; both artifacts are looked at.
    """
    readers: dict[str, Reader] = {}
    problems: list[Problem] = []
    for role, artifact in ((ENCODER, spec.artifacts.encoder), (DECODER, spec.artifacts.decoder)):
        if artifact is None:
            continue
        try:
            file = find_artifact(artifact, role=role, base_dir=base_dir, subject=subject)
        except InvalidInput as error:
            problems += error.problems
        else:
            readers[role] = _file_reader(file, subject)
    if problems:
        raise InvalidInput(subject, problems)
    return readers


def _file_reader(file: ModelFile, subject: str) -> Reader:
    def read(example: Mapping[str, Array]) -> Source:
        if file.format is ArtifactFormat.ONNX:
            graph = read_graph(file.path, role=file.role, subject=subject)
            return Source(graph, source_digests(file))
        _require_torch(file.role, subject)
        from latentry_serving.bundle.torch_export import from_program, from_torchscript

        data = file.path.read_bytes()
        if file.format is ArtifactFormat.PT2:
            model = from_program(data, role=file.role, subject=subject)
        else:
            model = from_torchscript(data, list(example.values()), role=file.role, subject=subject)
        graph = check_graph(model.model, role=file.role, subject=subject, source=str(file.path))
        return Source(graph, source_digests(file), model)

    return read


def module_reader(module: "Module", role: str, *, inputs: tuple[TensorSpec, ...] | None, subject: str) -> Reader:
    """A reader for a torch module; its source digest is that of the exported graph."""

    def read(example: Mapping[str, Array]) -> Source:
        shapes = {tensor.name: tensor.shape for tensor in inputs or ()}
        dynamic = [[0, *(i for i, size in enumerate(shapes.get(name, ()), start=1) if size < 0)] for name in example]
        _require_torch(role, subject)
        from latentry_serving.bundle.torch_export import from_module

        model = from_module(module, list(example.values()), dynamic=dynamic, role=role, subject=subject)
        graph = check_graph(model.model, role=role, subject=subject, source=type(module).__name__)
        strip(graph.model)
        return Source(graph, {role: digest_of(graph.model.SerializeToString(deterministic=True))}, model)

    return read


def encoder_example(arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...] | None) -> dict[str, Array]:
    """Two reference rows per input, under the declared name where the data gives none."""
    named = dict(arrays)
    if ONLY_INPUT in named and inputs is not None and len(inputs) == 1:
        named = {inputs[0].name: named[ONLY_INPUT]}
    return {name: np.resize(array, (_EXAMPLE_ROWS, *array.shape[1:])) for name, array in named.items()}


def decoder_example(spec: BundleSpec) -> dict[str, Array]:
    """Two latents at the origin."""
    return {"latent": np.zeros((_EXAMPLE_ROWS, spec.latent_dimension), dtype=np.float32)}


def _require_torch(role: str, subject: str) -> None:
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidInput.one(
            subject,
            path=f"artifacts.{role}",
            problem=f"is a torch model, and the package {error.name} is not installed",
            remedy="install latentry[torch], or give ONNX",
        ) from error
