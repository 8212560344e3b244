"""The lightest encoder Triton can serve, so that what stands in front of it weighs most: 16 values of its input."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from latentry_serving.contract.manifest import (
    REPOSITORY_FOLDER,
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation

MODEL = "light_encode"
MAX_BATCH_SIZE = 8
VALUES = 16
_CONFIGURATION = f"""name: "{MODEL}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH_SIZE}
input [{{ name: "x" data_type: TYPE_FP32 dims: [-1] }}]
output [{{ name: "%(output)s" data_type: TYPE_FP32 dims: [%(values)d] }}]
"""


def build_light(folder: Path, *, output: str = "y", values: int = VALUES) -> BundleManifest:
    """Writes the model to ``folder`` as a bundle has it: x [n, any] -> y [n, values], its first columns.

    Requests are not batched.
    """
    model = folder / REPOSITORY_FOLDER / MODEL
    (model / "1").mkdir(parents=True)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "any"])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", values])
    bounds = [
        helper.make_tensor(name, TensorProto.INT64, [1], [number])
        for name, number in (("starts", 0), ("ends", values), ("axes", 1))
    ]
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "starts", "ends", "axes"], [output])], "light", [x], [y], bounds
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), model / "1" / "model.onnx")
    (model / "config.pbtxt").write_text(_CONFIGURATION % {"output": output, "values": values})
    given = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1,))
    answer = TensorSpec(name=output, datatype=Datatype.FP32, shape=(values,))
    encode = OperationContract(model=MODEL, inputs=(given,), outputs=(answer,))
    return BundleManifest(
        name="light",
        version="1",
        contract=Contract(
            family=Family.ENCODER,
            latent_dimension=values,
            embedding_space="light",
            operations={Operation.ENCODE: encode},
        ),
        golden=Golden(samples=1, tolerances={}),
        files=(),
        provenance=Provenance(sources={}),
    )


def tensor_of(size: int) -> NDArray[np.float32]:
    """x of ``size`` bytes, [1, size / 4], random from a fixed seed."""
    return np.random.default_rng(7).random((1, size // 4), dtype=np.float32)
