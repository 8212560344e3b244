"""The generic model against a stand-in for Triton's stub module: one run per call, outputs split, errors kept apart."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)


class FakeError(Exception):
    INVALID_ARG, INTERNAL = 3, 1

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FakeTensor:
    """Takes arrays over as the stub does: through DLPack, contiguous or not at all."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    @classmethod
    def from_dlpack(cls, _name: str, exported: object) -> "FakeTensor":
        return cls(np.from_dlpack(exported).copy())

    def __dlpack__(self, **given: object) -> object:
        return self.array.__dlpack__(**given)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class FakeResponse:
    def __init__(self, tensors: list[FakeTensor] = (), error: FakeError | None = None) -> None:
        self.arrays = [tensor.array for tensor in tensors]
        self.error = error


@pytest.fixture
def generic(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    fake = SimpleNamespace(
        Tensor=FakeTensor,
        InferenceResponse=FakeResponse,
        TritonError=FakeError,
        get_input_tensor_by_name=lambda request, name: FakeTensor(request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake)
    monkeypatch.delitem(sys.modules, "latentry_serving.triton.onnx_model", raising=False)
    return importlib.import_module("latentry_serving.triton.onnx_model")


class Model:
    """A loaded generic model over a graph, counting its runs."""

    def __init__(
        self, generic: ModuleType, root: Path, nodes: list[onnx.NodeProto], *, max_batch_size: int = 8
    ) -> None:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("row", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(TABLE, "table")],
        )
        (root / "1").mkdir()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, root / "1/model.onnx")
        self.model = generic.TritonPythonModel()
        config = {"max_batch_size": max_batch_size, "parameters": {"graph_optimisation_level": {"string_value": "-1"}}}
        self.model.initialize(
            {
                "model_config": json.dumps(config),
                "model_repository": str(root),
                "model_version": "1",
                "model_instance_kind": "CPU",
                "model_instance_device_id": "0",
            }
        )
        self.batches: list[int] = []
        session = self.model._session
        self.model._session = SimpleNamespace(run=lambda names, feed: self._run(session, names, feed))

    def _run(self, session, names, feed):
        self.batches.append(len(feed["index"]))
        return session.run(names, feed)

    def __call__(self, *indices: list[int]) -> list[FakeResponse]:
        return self.model.execute([{"index": np.array(entry, np.int64)} for entry in indices])


GATHER = [helper.make_node("Gather", ["table", "index"], ["row"])]


def test_requests_of_one_call_become_one_run(generic: ModuleType, tmp_path: Path) -> None:
    model = Model(generic, tmp_path, GATHER)
    answers = model([1], [2, 3], [4, 5, 6])
    assert model.batches == [6]
    for answer, rows in zip(answers, ([1], [2, 3], [4, 5, 6]), strict=True):
        np.testing.assert_array_equal(answer.arrays[0], TABLE[rows])


def test_a_bad_request_fails_alone(generic: ModuleType, tmp_path: Path) -> None:
    model = Model(generic, tmp_path, GATHER)
    good, bad, also_good = model([1], [77], [2])
    assert model.batches == [3, 1, 1, 1]
    np.testing.assert_array_equal(good.arrays[0], TABLE[[1]])
    assert "idx=77" in str(bad.error)
    assert bad.error.code == FakeError.INVALID_ARG
    np.testing.assert_array_equal(also_good.arrays[0], TABLE[[2]])


def test_without_batching_each_request_runs_alone(generic: ModuleType, tmp_path: Path) -> None:
    model = Model(generic, tmp_path, GATHER, max_batch_size=0)
    model([1], [2, 3])
    assert model.batches == [1, 2]


def test_outputs_that_do_not_follow_the_batch_are_not_split(generic: ModuleType, tmp_path: Path) -> None:
    summed = [*helper_chain("Gather", "ReduceSum")]
    model = Model(generic, tmp_path, summed)
    one, two = model([1], [2, 3])
    assert model.batches == [3, 1, 2]
    np.testing.assert_array_equal(one.arrays[0], TABLE[[1]].sum(keepdims=True))
    np.testing.assert_array_equal(two.arrays[0], TABLE[[2, 3]].sum(keepdims=True))


def helper_chain(first: str, second: str) -> list[onnx.NodeProto]:
    return [helper.make_node(first, ["table", "index"], ["middle"]), helper.make_node(second, ["middle"], ["row"])]


def test_a_gpu_without_cuda_is_refused_with_the_remedy(generic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="pip install onnxruntime-gpu"):
        generic._providers({"model_instance_kind": "GPU", "model_instance_device_id": "0"})


def test_a_gpu_with_cuda_uses_its_device(generic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    providers = generic._providers({"model_instance_kind": "GPU", "model_instance_device_id": "3"})
    assert providers == [("CUDAExecutionProvider", {"device_id": 3}), "CPUExecutionProvider"]
