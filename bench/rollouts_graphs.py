"""Graphs of a small VAE, and what may be done to them: all changes keep the graphs' inputs, outputs and, but for what
each says, their numbers."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

Images = NDArray[np.float32]

_OPSET = 18
_SIDE = 256
"""Of the square matrices that a slow version multiplies: about 34 million operations each."""


@dataclass(frozen=True)
class Networks:
    """A VAE as two graphs: image [n, 1, 8, 8] -> mean and log-variance [n, d]; latent [n, d] -> image."""

    encoder: ModelProto
    decoder: ModelProto

    @property
    def dimension(self) -> int:
        return int(self.encoder.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def linear_networks(reference: Images, dimension: int = 8) -> Networks:
    """Principal components, with a posterior variance that depends on the input: made in no time."""
    flat = reference.reshape(len(reference), -1)
    centre = flat.mean(axis=0)
    _, values, directions = np.linalg.svd(flat - centre, full_matrices=False)
    scale = values[:dimension] / np.sqrt(len(flat))
    arrays = {
        "centre": centre,
        "encode": (directions[:dimension] / scale[:, None]).T,
        "decode": directions[:dimension] * scale[:, None],
        "slope": np.float32(0.5),
        "level": np.float32(-2),
    }
    weights = {name: numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in arrays.items()}
    shape = numpy_helper.from_array(np.array([-1, *reference.shape[1:]], np.int64), "shape")
    encoder = _model(
        [
            ("Flatten", ["image"], "flat"),
            ("Sub", ["flat", "centre"], "centred"),
            ("MatMul", ["centred", "encode"], "mean"),
            ("Tanh", ["mean"], "bent"),
            ("Mul", ["bent", "slope"], "tilted"),
            ("Add", ["tilted", "level"], "log_variance"),
        ],
        {"image": list(reference.shape[1:])},
        {"mean": [dimension], "log_variance": [dimension]},
        [weights[name] for name in ("centre", "encode", "slope", "level")],
    )
    decoder = _model(
        [
            ("MatMul", ["latent", "decode"], "raw"),
            ("Add", ["raw", "centre"], "level"),
            ("Reshape", ["level", "shape"], "picture"),
        ],
        {"latent": [dimension]},
        {"picture": list(reference.shape[1:])},
        [weights["decode"], weights["centre"], shape],
    )
    return Networks(encoder, decoder)


def half_precision(networks: Networks) -> Networks:
    """Weights and arithmetic in float16, inputs and outputs as they were."""
    return Networks(*(_halved(model) for model in _both(networks)))


def eight_bits(networks: Networks, reference: Images, folder: Path) -> Networks:
    """Weights and activations of products and convolutions in int8, calibrated on the reference."""
    latents = run(networks.encoder, reference)[0]
    pairs = zip(_both(networks), (reference, latents), strict=True)
    return Networks(*(_quantised(model, data, folder / str(i)) for i, (model, data) in enumerate(pairs)))


def rotated(networks: Networks, seed: int = 5) -> Networks:
    """Latents turned by a random orthogonal matrix, which the decoder turns back: as good a VAE, in another space."""
    d = networks.dimension
    q = np.linalg.qr(np.random.Generator(np.random.PCG64(seed)).normal(size=(d, d)))[0].astype(np.float32)
    encoder = _after(networks.encoder, 0, [("MatMul", ["{raw}", "turn"], "{out}")], [("turn", q)])
    turned = copy.deepcopy(networks.decoder)
    given = turned.graph.input[0].name
    for node in turned.graph.node:
        node.input[:] = ["turned_back" if name == given else name for name in node.input]
    turned.graph.node.insert(0, helper.make_node("MatMul", [given, "back"], ["turned_back"]))
    turned.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(q.T), "back"))
    return Networks(encoder, turned)


def undefined_when_dark(networks: Networks, limit: float) -> Networks:
    """The mean is NaN for images with more ink than ``limit``: the root of what is then negative."""
    image = networks.encoder.graph.input[0].name
    nodes = [
        ("ReduceMean", [image, "pixels"], "ink"),
        ("Sub", ["limit", "ink"], "left"),
        ("Sqrt", ["left"], "root"),
        ("Reshape", ["root", "column"], "root_column"),
        ("Mul", ["root_column", "nothing"], "nought"),
        ("Add", ["{raw}", "nought"], "{out}"),
    ]
    constants = [
        ("pixels", np.array([1, 2, 3], np.int64)),
        ("limit", np.float32(limit)),
        ("column", np.array([-1, 1], np.int64)),
        ("nothing", np.float32(0)),
    ]
    return Networks(_after(networks.encoder, 0, nodes, constants), networks.decoder)


def collapsed(networks: Networks) -> Networks:
    """The posterior is all but the prior for every input: mean 1/1000 of what it was, log-variance 0."""
    small, nought = np.float32(1e-3), np.float32(0)
    encoder = _after(networks.encoder, 0, [("Mul", ["{raw}", "small"], "{out}")], [("small", small)])
    encoder = _after(encoder, 1, [("Mul", ["{raw}", "nought"], "{out}")], [("nought", nought)])
    return Networks(encoder, networks.decoder)


def slower(networks: Networks, products: int) -> Networks:
    """Every execution multiplies so many matrices more; the outputs stay."""
    nodes = [
        ("ReduceMean", [networks.encoder.graph.input[0].name], "level_of_all"),
        ("Reshape", ["level_of_all", "one"], "level_scalar"),
        ("Add", ["orthogonal", "level_scalar"], "product0"),
        *[("MatMul", [f"product{i}", "orthogonal"], f"product{i + 1}") for i in range(products)],
        ("ReduceMax", [f"product{products}"], "largest"),
        ("Reshape", ["largest", "one"], "largest_scalar"),
        ("Mul", ["largest_scalar", "nothing"], "nought"),
        ("Add", ["{raw}", "nought"], "{out}"),
    ]
    q = np.linalg.qr(np.random.Generator(np.random.PCG64(6)).normal(size=(_SIDE, _SIDE)))[0].astype(np.float32)
    constants = [
        ("orthogonal", q),
        ("one", np.array([1], np.int64)),
        ("nothing", np.float32(0)),
    ]
    return Networks(_after(networks.encoder, 0, nodes, constants), networks.decoder)


def leaking(networks: Networks, megabytes: float) -> Networks:
    """Every execution takes scratch memory of ``megabytes`` / u with u uniform in (0, 1], at most 1024 times that.

    ONNX Runtime's arena keeps the largest it ever took, and the largest of n such draws grows as n: memory that grows
    with the number of requests and is never given back. The outputs stay.
    """
    floats = megabytes * 1e6 / 4
    nodes: list[Any] = [
        helper.make_node("RandomUniform", [], ["drawn"], shape=[1], low=1 / 1024, high=1.0),
        ("Div", ["floats", "drawn"], "many"),
        helper.make_node("Cast", ["many"], ["count"], to=TensorProto.INT64),
        helper.make_node(
            "ConstantOfShape", ["count"], ["scratch"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
        ),
        helper.make_node("ReduceMin", ["scratch"], ["kept"], keepdims=1),
        ("Mul", ["kept", "nothing"], "nought"),
        ("Add", ["{raw}", "nought"], "{out}"),
    ]
    constants = [("floats", np.array([floats], np.float32)), ("nothing", np.float32(0))]
    return Networks(_after(networks.encoder, 0, nodes, constants), networks.decoder)


def run(model: ModelProto, rows: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The outputs of a graph with one input, by ONNX Runtime in this process."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: rows})
    return outputs


def _both(networks: Networks) -> tuple[ModelProto, ModelProto]:
    return networks.encoder, networks.decoder


def _halved(model: ModelProto) -> ModelProto:
    changed = OnnxModel(convert_float_to_float16(copy.deepcopy(model), keep_io_types=True))
    changed.topological_sort()
    halved: ModelProto = changed.model
    return halved


class _Rows(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    def __init__(self, name: str, rows: NDArray[Any]) -> None:
        self._batches = iter([{name: rows[start : start + 32]} for start in range(0, len(rows), 32)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._batches, None)


def _quantised(model: ModelProto, rows: NDArray[Any], folder: Path) -> ModelProto:
    folder.mkdir(parents=True)
    given, prepared, result = (folder / f"{name}.onnx" for name in ("given", "prepared", "int8"))
    onnx.save(model, given)
    quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(result),
        _Rows(model.graph.input[0].name, rows),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm", "Conv", "ConvTranspose"],
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return onnx.load(result)


def _after(model: ModelProto, output: int, nodes: Sequence[Any], constants: Sequence[tuple[str, Any]]) -> ModelProto:
    """The graph with nodes between an output's value, ``{raw}`` in them, and the output itself, ``{out}``."""
    name = model.graph.output[output].name
    changed, raw = renamed(model, name, f"{name}_before", outputs=False), f"{name}_before"
    for node in nodes:
        if isinstance(node, tuple):
            kind, inputs, result = node
            node = helper.make_node(kind, [i.format(raw=raw, out=name) for i in inputs], [result.format(out=name)])
        changed.graph.node.append(node)
    changed.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), key) for key, array in constants)
    return changed


def renamed(model: ModelProto, old: str, new: str, *, outputs: bool = True) -> ModelProto:
    changed = copy.deepcopy(model)
    for node in changed.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in changed.graph.output if outputs else ():
        value.name = new if value.name == old else value.name
    return changed


def _model(
    nodes: Sequence[tuple[str, list[str], str]],
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    weights: Sequence[TensorProto],
) -> ModelProto:
    given, made = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in side.items()]
        for side in (inputs, outputs)
    )
    graph = helper.make_graph(
        [helper.make_node(kind, names, [result]) for kind, names, result in nodes], "digits", given, made, list(weights)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
