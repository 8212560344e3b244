"""One ONNX graph, read, checked and described: what the composer needs to know about it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, ValueInfoProto, numpy_helper

from latentry_serving.bundle.names import subgraphs
from latentry_serving.bundle.tensors import datatype_of
from latentry_serving.contract.errors import InvalidInput, Problem
from latentry_serving.contract.manifest import Datatype, TensorSpec

_CUT_SHORT = "check that the file is whole and copied with its external data files, then export it again"
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
MAX_CHECKED_BYTES = 2**31 - 1
"""protobuf's limit: larger models are checked by onnxruntime alone."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked graph. ``inputs`` and ``outputs`` are without the batch dimension; -1 marks a dynamic one.

    Output shapes come from the file; ``None`` when it does not state them.
    """

    role: str
    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...] | None, ...]
    output_types: tuple[Datatype | None, ...]


def read_graph(path: Path, *, role: str, subject: str) -> Graph:
    """Reads an ONNX file with its external data.

    Raises:
        InvalidInput: missing, cut short, not ONNX, or what ``check_graph`` refuses.
    """
    field = f"artifacts.{role}.path"
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        missing = path if error.filename is None else Path(str(error.filename))
        raise InvalidInput.one(
            subject, path=field, problem=f"{missing} does not exist", remedy="correct the path or copy the file there"
        ) from error
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise InvalidInput.one(
            subject, path=field, problem=f"{path} is cut short or no ONNX model ({_line(error)})", remedy=_CUT_SHORT
        ) from error
    return check_graph(model, role=role, subject=subject, source=str(path))


def check_graph(model: onnx.ModelProto, *, role: str, subject: str, source: str) -> Graph:
    """Describes a graph after checking it.

    Raises:
        InvalidInput: invalid ONNX, an unknown operator, NaN or infinite weights, a static batch dimension, a tensor
            type that cannot be served. Problems of one kind are reported together.
    """
    field = f"artifacts.{role}"
    _check_structure(model, field=field, subject=subject, source=source)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    problems = [*_weight_problems(model, field), *_value_problems(inputs, graph.output, field)]
    if problems:
        raise InvalidInput(subject, problems)
    return Graph(
        role=role,
        model=model,
        inputs=tuple(
            TensorSpec(name=value.name, datatype=_datatype(value), shape=_shape(value)[1:]) for value in inputs
        ),
        outputs=tuple(value.name for value in graph.output),
        output_shapes=tuple(_shape(value)[1:] if _has_shape(value) else None for value in graph.output),
        output_types=tuple(datatype_of(value.type.tensor_type.elem_type) for value in graph.output),
    )


def _check_structure(model: onnx.ModelProto, *, field: str, subject: str, source: str) -> None:
    try:
        if model.ByteSize() < MAX_CHECKED_BYTES:
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        text = _line(error)
        unknown = re.search(r"No Op registered for (\S+)", text)
        if unknown:
            problem = f"{source} uses the operator {unknown[1]}, which ONNX does not know"
            remedy = "export with standard ONNX operators"
        else:
            problem, remedy = f"{source} is cut short or invalid ONNX ({text[:300]})", _CUT_SHORT
        raise InvalidInput.one(subject, path=field, problem=problem, remedy=remedy) from error
    if not model.graph.output or not model.graph.node:
        raise InvalidInput.one(
            subject, path=field, problem=f"{source} is cut short or empty: it has no outputs", remedy=_CUT_SHORT
        )


def _weight_problems(model: onnx.ModelProto, field: str) -> Iterator[Problem]:
    for tensor, constant in _tensors(model.graph):
        if tensor.data_type not in _FLOATS:
            continue
        try:
            values = numpy_helper.to_array(tensor)
        except ValueError as error:
            yield Problem(field, f"weight {tensor.name!r} is cut short ({_line(error)})", _CUT_SHORT)
            continue
        # One infinite constant to fill or clip with, and a mask of 0 and -inf, are how attention is written.
        infinite_is_meant = constant or values.size == 1 or bool(np.isin(values, (0.0, -np.inf)).all())
        bad = int((np.isnan(values) if infinite_is_meant else ~np.isfinite(values)).sum())
        if bad:
            yield Problem(
                field,
                f"weight {tensor.name!r} holds {bad} NaN or infinite of {values.size} values",
                "train or export the model again; check for a diverged run",
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[TensorProto, bool]]:
    """Every weight, and whether it is a constant inside a node; subgraphs included."""
    for tensor in graph.initializer:
        yield tensor, False
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t, True
        for subgraph in subgraphs(node):
            yield from _tensors(subgraph)


def _value_problems(inputs: list[ValueInfoProto], outputs: object, field: str) -> Iterator[Problem]:
    if not inputs:
        yield Problem(field, "the graph takes no input", "export it with its input as an argument")
    for value in inputs:
        if not value.type.HasField("tensor_type") or datatype_of(value.type.tensor_type.elem_type) is None:
            yield Problem(
                field,
                f"input {value.name!r} has type {_type_name(value)}, which cannot be served",
                "take numbers (FP32, FP16, FP64, integers or BOOL) and convert inside the graph or before it",
            )
        elif not _has_shape(value) or not value.type.tensor_type.shape.dim:
            yield Problem(field, f"input {value.name!r} has no batch dimension", "export it as [batch, ...]")
        elif value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            size = value.type.tensor_type.shape.dim[0].dim_value
            yield Problem(
                field,
                f"input {value.name!r} has the static batch dimension {size}",
                'export with a dynamic first dimension: dynamic_shapes=({0: torch.export.Dim("batch")},)',
            )


def _has_shape(value: ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"))


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim)


def _datatype(value: ValueInfoProto) -> Datatype:
    datatype = datatype_of(value.type.tensor_type.elem_type)
    assert datatype is not None, value.name  # noqa: S101 - _value_problems has refused it
    return datatype


def _type_name(value: ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value"))
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
