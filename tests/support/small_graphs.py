"""ONNX graphs of a few nodes, from and to float32 with batches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

Node = tuple[str, list[str], str] | tuple[str, list[str], str, dict[str, Any]]
"""Operator, inputs, output, and attributes where it has some."""
Sizes = Mapping[str, Sequence[int]]
"""Tensors by name: their sizes without the batch."""


def save_graph(
    path: Path, nodes: Sequence[Node], inputs: Sizes, outputs: Sizes, constants: Mapping[str, ArrayLike]
) -> None:
    """Keeps those constants that the nodes read, in their own types."""
    made = [helper.make_node(node[0], node[1], [node[2]], **(node[3] if len(node) == 4 else {})) for node in nodes]
    read = {name for each in made for name in each.input}
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items() if name in read]
    graph = helper.make_graph(made, path.stem, _tensors(inputs), _tensors(outputs), kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def save_linear(path: Path, weights: np.ndarray) -> None:
    """x [n, rows] @ weights -> y [n, columns]."""
    rows, columns = weights.shape
    given = {"w": weights.astype(np.float32)}
    save_graph(path, [("MatMul", ["x", "w"], "y")], {"x": [rows]}, {"y": [columns]}, given)


def _tensors(sizes: Sizes) -> list[ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *of]) for name, of in sizes.items()]
