"""Running a graph with ONNX Runtime on the CPU, repeatably: one thread, one order of summation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from latentry_serving.bundle.tensors import Array

LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What ONNX Runtime raises for a graph it cannot load or run."""

_ERRORS_ONLY = 3
_ROWS_AT_A_TIME = 8
"""Of many rows: what a model needs for a batch of all of them may be more than there is."""


class Session:
    """One loaded graph."""

    def __init__(self, path: Path) -> None:
        """Loads ``path``; raises one of ``LOAD_ERRORS``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.use_deterministic_compute = True
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; raises one of ``LOAD_ERRORS`` when the graph cannot take the inputs."""
        values = self._session.run(None, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))

    def run_rows(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The same for inputs [rows, ...], a few rows at a time."""
        rows = max(len(array) for array in inputs.values())
        parts = [
            self.run({name: array[start : start + _ROWS_AT_A_TIME] for name, array in inputs.items()})
            for start in range(0, rows, _ROWS_AT_A_TIME)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


def sentence(error: Exception) -> str:
    """ONNX Runtime's message on one line, without its code prefix."""
    text = " ".join(str(error).split())
    return text.partition(" : FAIL : ")[2] or text
