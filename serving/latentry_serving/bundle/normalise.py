"""Brings graphs to one form: one opset for encoder and decoder, and bytes that depend on nothing but the model."""

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper, inliner, version_converter
from onnx.external_data_helper import load_external_data_for_model

from latentry_serving.bundle.graph import MAX_CHECKED_BYTES, Graph
from latentry_serving.bundle.names import subgraphs
from latentry_serving.contract.errors import InvalidInput

MIN_OPSET = 18
"""The least opset in which every reduction takes its axes as an input, as the composed graphs write them."""
EXTERNAL_DATA_BYTES = 1 << 30
"""Larger graphs keep their weights in a file of their own: protobuf ends at 2 GiB."""
EXTERNAL_DATA_FILE = "model.onnx.data"
_SMALLEST_EXTERNAL_TENSOR = 1024


def unify(graphs: list[Graph], *, subject: str) -> list[Graph]:
    """The graphs with their local functions inlined, all in one opset of at least ``MIN_OPSET`` and its file format.

    Raises:
        InvalidInput: a graph cannot be converted, or two use different versions of a custom operator set.
    """
    inlined = [
        replace(graph, model=inliner.inline_local_functions(graph.model)) if graph.model.functions else graph
        for graph in graphs
    ]
    _check_custom_domains(inlined, subject)
    target = max(MIN_OPSET, *(opset_of(graph.model) for graph in inlined))
    converted = [_converted(graph, target, subject) for graph in inlined]
    for graph in converted:
        # The oldest file format that has these operators: exporters write newer ones than the servers out there read.
        graph.model.ir_version = helper.find_min_ir_version_for(list(graph.model.opset_import), ignore_unknown=True)
    return converted


def opset_of(model: ModelProto) -> int:
    """Version of the standard operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _check_custom_domains(graphs: list[Graph], subject: str) -> None:
    seen: dict[str, tuple[int, str]] = {}
    for graph in graphs:
        for entry in graph.model.opset_import:
            version, role = seen.setdefault(entry.domain, (entry.version, graph.role))
            if entry.domain not in ("", "ai.onnx") and version != entry.version:
                raise InvalidInput.one(
                    subject,
                    path=f"artifacts.{graph.role}",
                    problem=f"uses {entry.domain} {entry.version}, the {role} uses {version}",
                    remedy="export both with the same version",
                )


def _converted(graph: Graph, target: int, subject: str) -> Graph:
    given = opset_of(graph.model)
    if given == target:
        return graph
    remedy = f"export it with opset {target}: torch.onnx.export(..., opset_version={target})"
    if graph.model.ByteSize() >= MAX_CHECKED_BYTES:
        raise InvalidInput.one(
            subject,
            path=f"artifacts.{graph.role}",
            problem=f"has opset {given}, {target} is needed, and more than 2 GiB cannot be converted",
            remedy=remedy,
        )
    try:
        return replace(graph, model=version_converter.convert_version(graph.model, target))
    except (RuntimeError, version_converter.ConvertError) as error:
        raise InvalidInput.one(
            subject,
            path=f"artifacts.{graph.role}",
            problem=f"cannot be converted from opset {given} to {target} ({' '.join(str(error).split())})",
            remedy=remedy,
        ) from error


def strip(model: ModelProto) -> ModelProto:
    """Removes, in place, what does not change the computation: documentation, source paths, intermediate shapes."""
    model.doc_string = ""
    model.producer_version = ""
    model.domain = ""
    del model.metadata_props[:]
    _strip_graph(model.graph)
    return model


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
        if tensor.data_location == TensorProto.DEFAULT:
            tensor.ClearField("data_location")  # written out for weights that were read from a file of their own
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
        for subgraph in subgraphs(node):
            _strip_graph(subgraph)


def write_graph(model: ModelProto, path: Path, *, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
    """Writes the same bytes for the same model; weights go to ``model.onnx.data`` when they are large."""
    if model.ByteSize() < external_data_bytes:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=EXTERNAL_DATA_FILE,
        size_threshold=_SMALLEST_EXTERNAL_TENSOR,
    )
    # Saving moved the weights out of the model in memory, which later operations are composed from.
    load_external_data_for_model(model, str(path.parent))
