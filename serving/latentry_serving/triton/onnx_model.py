"""A generic model for Triton's python backend: runs the bundle's ``model.onnx`` through onnxruntime.

The file is linked as ``model.py`` into a local repository and runs inside Triton's stub process, so it imports
nothing of this package. One session per instance; all requests Triton hands over in one call become one
``session.run`` on the concatenated batch.

Two bridges to numpy are avoided, because the stub of the PyPI wheel was built against numpy 1: with numpy 2,
``Tensor.as_numpy`` repeats the first element of every input, and ``Tensor(name, array)`` sends zero bytes. DLPack
carries both ways unharmed.

Protocol: triton-inference-server/python_backend, README.md, "TritonPythonModel".
"""

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

_CPU = (1, 0)  # DLPack's kDLCPU, device 0
_GRAPH_LEVELS = {
    "-1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = [ctypes.py_object, ctypes.c_void_p]
_set_destructor.restype = ctypes.c_int


class _Export:
    """An array offered through DLPack, its capsule stripped of numpy's destructor.

    The stub takes the tensor over and calls its deleter, but marks the capsule with a name numpy does not know;
    numpy's destructor would then print a traceback for every output.
    """

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, stream: object = None) -> Any:
        capsule = self._array.__dlpack__()
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU


class TritonPythonModel:
    """The interface the python backend expects."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph. An exception here becomes the reason Triton logs for the failed load."""
        config = json.loads(args["model_config"])
        self._batches = config["max_batch_size"] > 0
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), _session_options(config), _providers(args))
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request, in order; a request that cannot run gets an error, its neighbours do not."""
        if len(requests) == 1 or not self._batches:
            return [self._answer_alone(request) for request in requests]
        try:
            return self._answer_together(requests)
        except Exception:  # noqa: BLE001 - whatever one request did must not reach the others: each runs alone
            return [self._answer_alone(request) for request in requests]

    def _answer_alone(self, request: Any) -> Any:
        try:
            return self._response(
                self._session.run(self._outputs, dict(zip(self._inputs, self._read(request), strict=True)))
            )
        except Exception as error:  # noqa: BLE001 - becomes the response's error
            code = (
                pb_utils.TritonError.INVALID_ARG
                if isinstance(error, InvalidArgument)
                else pb_utils.TritonError.INTERNAL
            )
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))

    def _answer_together(self, requests: list[Any]) -> list[Any]:
        arrays = [self._read(request) for request in requests]
        bounds = np.cumsum([given[0].shape[0] for given in arrays]).tolist()
        feed = {
            name: np.concatenate(column) for name, column in zip(self._inputs, zip(*arrays, strict=True), strict=True)
        }
        outputs = self._session.run(self._outputs, feed)
        for name, output in zip(self._outputs, outputs, strict=True):
            if output.shape[:1] != (bounds[-1],):
                raise ValueError(f"output {name!r} has shape {output.shape}, not {bounds[-1]} rows as the batch has")
        return [
            self._response([output[start:end] for output in outputs])
            for start, end in zip([0, *bounds], bounds, strict=False)
        ]

    def _read(self, request: Any) -> list[Any]:
        return [np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in self._inputs]

    def _response(self, arrays: list[Any]) -> Any:
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor.from_dlpack(name, _Export(array))
                for name, array in zip(self._outputs, arrays, strict=True)
            ]
        )


def _session_options(config: dict[str, Any]) -> Any:
    parameters = {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: what a request does wrong is in its response, not in the log
    # Instances share the cores: a thread that spins while it waits takes them from a neighbour.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = parameters.get("graph_optimisation_level")
    if level is not None:
        options.graph_optimization_level = _GRAPH_LEVELS[level]
    return options


def _providers(args: dict[str, str]) -> list[Any]:
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise RuntimeError("a GPU instance is asked for, but onnxruntime has no CUDA; pip install onnxruntime-gpu")
    return [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}), "CPUExecutionProvider"]
