"""The generic model in a real Triton: values over both protocols, every datatype, batching, errors kept apart."""

import asyncio
import contextlib

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from latentry_serving.contract.manifest import Datatype
from latentry_serving.triton.client import TritonClient
from latentry_serving.triton.supervisor import Phase, TritonServer

pytestmark = pytest.mark.triton

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)
TABLE = np.arange(20, dtype=np.float32).reshape(10, 2)


@contextlib.contextmanager
def _connect(server: TritonServer, protocol: str):
    module, address = {"http": (triton_http, server.addresses.http), "grpc": (triton_grpc, server.addresses.grpc)}[
        protocol
    ]
    with module.InferenceServerClient(str(address)) as client:
        yield module, client


def _given(module, name: str, array: np.ndarray, datatype: str):
    given = module.InferInput(name, array.shape, datatype)
    given.set_data_from_numpy(array)
    return given


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("rows", [1, 7, 32])
def test_values_are_the_graphs(tiny_triton: TritonServer, protocol: str, rows: int) -> None:
    with _connect(tiny_triton, protocol) as (module, client):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        answer = client.infer("tiny_encode", [_given(module, "x", x, "FP32")]).as_numpy("embedding")
        np.testing.assert_allclose(answer, x @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_every_datatype_survives(tiny_triton: TritonServer, protocol: str) -> None:
    with _connect(tiny_triton, protocol) as (module, client):
        kinds = [entry for entry in Datatype if entry not in (Datatype.BYTES, Datatype.BF16)]
        sent = {
            kind: np.array([[0, 1, 2], [3, 100, 0]]).astype(bool if kind is Datatype.BOOL else triton_to_np_dtype(kind))
            for kind in kinds
        }
        answer = client.infer(
            "tiny_decode", [_given(module, f"{kind.lower()}_in", array, kind.value) for kind, array in sent.items()]
        )
        for kind, array in sent.items():
            got = answer.as_numpy(f"{kind.lower()}_out")
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)


def test_only_the_asked_output_comes_back(tiny_triton: TritonServer) -> None:
    with _connect(tiny_triton, "http") as (module, client):
        inputs = [
            _given(module, f"{kind.lower()}_in", np.zeros((1, 3), triton_to_np_dtype(kind)), kind.value)
            for kind in Datatype
            if kind not in (Datatype.BYTES, Datatype.BF16)
        ]
        answer = client.infer("tiny_decode", inputs, outputs=[module.InferRequestedOutput("int8_out")])
        assert [entry["name"] for entry in answer.get_response()["outputs"]] == ["int8_out"]


async def _sample_many(server: TritonServer, indices: list[int]) -> list[np.ndarray | InferenceServerException]:
    async with triton_grpc_aio.InferenceServerClient(str(server.addresses.grpc)) as client:

        async def one(index: int):
            given = _given(triton_grpc_aio, "index", np.array([[index]], np.int64), "INT64")
            return (await client.infer("tiny_sample", [given])).as_numpy("row")

        return await asyncio.gather(*(one(index) for index in indices), return_exceptions=True)


async def _executions(server: TritonServer, model: str) -> int:
    async with TritonClient(server.addresses.http) as client:
        return next(entry["execution_count"] for entry in await client.statistics() if entry["name"] == model)


async def test_concurrent_requests_share_executions(tiny_triton: TritonServer) -> None:
    before = await _executions(tiny_triton, "tiny_sample")
    answers = await _sample_many(tiny_triton, [n % 10 for n in range(200)])
    for n, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, TABLE[[[n % 10]]])
    assert await _executions(tiny_triton, "tiny_sample") - before < 200


async def test_a_bad_request_does_not_fail_its_neighbours(tiny_triton: TritonServer) -> None:
    answers = await _sample_many(tiny_triton, [99 if n % 7 == 0 else n % 10 for n in range(100)])
    for n, answer in enumerate(answers):
        if n % 7 == 0:
            assert isinstance(answer, InferenceServerException)
            assert "99" in str(answer)
        else:
            np.testing.assert_array_equal(answer, TABLE[[[n % 10]]])


async def test_client_reads_metadata(tiny_triton: TritonServer) -> None:
    assert tiny_triton.state.phase is Phase.READY
    assert tiny_triton.state.models_loaded == ("tiny_decode", "tiny_encode", "tiny_sample")
    async with TritonClient(tiny_triton.addresses.http) as client:
        assert await client.is_ready()
        assert not await client.is_ready(server_id="another")
        assert (await client.model_metadata("tiny_encode"))["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
        ]


def test_a_batch_over_the_limit_is_refused(tiny_triton: TritonServer) -> None:
    with (
        _connect(tiny_triton, "http") as (module, client),
        pytest.raises(InferenceServerException, match="batch-size must be <= 32"),
    ):
        client.infer("tiny_encode", [_given(module, "x", np.zeros((33, 4), np.float32), "FP32")])
