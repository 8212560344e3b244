"""A comparison gives way to users and to the tap's end. A played Triton that says when it was asked. Covered: users
first, but not for ever; marks and sizes of its calls; stopping while it waits, while Triton hangs; odd answers."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from latentry_serving.contract.comparison import (
    ComparisonState,
    InputSource,
    SampleGroup,
    SampleHead,
    SampleInput,
)
from latentry_serving.contract.errors import OperationFailed
from latentry_serving.contract.manifest import Contract, Datatype, OperationContract, TensorSpec
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.tap.compare_desk import CompareDesk, Limits

X, Y = (TensorSpec(name=name, datatype=Datatype.FP32, shape=(4,)) for name in "xy")
ENCODE = OperationContract(model="m", inputs=(X,), outputs=(Y,))
CONTRACT = Contract(
    family=Family.ENCODER, latent_dimension=4, embedding_space="s", operations={Operation.ENCODE: ENCODE}
)
ROWS = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
PATIENT = ProbeSettings(postpone_seconds=60, timeout_seconds=60)


def body(old: np.ndarray = ROWS) -> bytes:
    group = SampleGroup(
        source=InputSource.LIVE, rows=len(ROWS), inputs=(SampleInput(name="x", datatype=Datatype.FP32, shape=(4,)),)
    )
    head = SampleHead(digest=OLD, version="1", embedding_space="s", dimensions=4, groups=(group,))
    return head.model_dump_json(by_alias=True).encode() + b"\n" + ROWS.tobytes() + old.tobytes()


class PlayedTriton:
    """Answers encode with its input."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, int, int]] = []
        """Mark, rows, and users in flight at that time."""
        self.users = 0
        self.width = 4
        self.scale = np.float32(1)
        self.breaks_above = np.inf
        """First number of an input beyond which its embedding is NaN."""
        self.hangs = threading.Event()
        self.hangs.set()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b'{"max_batch_size": 20}', {})

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                cut = int(self.headers["Inference-Header-Content-Length"])
                rows = json.loads(data[:cut])["inputs"][0]["shape"][0]
                script.asked.append((self.headers.get("latentry-probe"), rows, script.users))
                script.hangs.wait(30)
                x = np.frombuffer(data[cut:], "<f4").reshape(rows, 4)
                found = np.where(x[:, :1] > script.breaks_above, np.float32("nan"), x * script.scale)
                y = found[:, : script.width].tobytes()
                output = {"name": "y", "datatype": "FP32", "shape": [rows, script.width]}
                output["parameters"] = {"binary_data_size": len(y)}
                head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
                self._answer(head + y, {"Inference-Header-Content-Length": str(len(head))})

            def _answer(self, data: bytes, more: dict[str, str]) -> None:
                self.send_response(200)
                for name, value in ({"Content-Length": str(len(data))} | more).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True


@pytest.fixture
def triton():
    script = PlayedTriton()
    with script.server:
        thread = threading.Thread(target=script.server.serve_forever, daemon=True)
        thread.start()
        yield script
        script.hangs.set()
        script.server.shutdown()
        thread.join()


@pytest.fixture
def desk(triton):
    """``desk(settings)``: a started one."""
    desks = []

    def start(settings: ProbeSettings = PATIENT, sample: bytes = b"") -> CompareDesk:
        source = SimpleNamespace(manifest=SimpleNamespace(contract=CONTRACT, version="2"), digest=NEW)
        address = Address(port=triton.server.server_port)
        found = CompareDesk(source, settings, address, in_flight=lambda: triton.users, clock=time.monotonic)
        desks.append(found)
        found.start(sample or body(), Limits())
        return found

    yield start
    for one in desks:
        one.stop()


def test_its_calls_are_marked_and_small(triton, desk, wire) -> None:
    found = desk()
    wire.eventually(lambda: found.report().state is ComparisonState.DONE)
    assert triton.asked == [("compare", 20, 0), ("compare", 20, 0), ("compare", 10, 0)]
    assert (found.report().result.space, found.report().result.live) == ("same", 50)
    assert found.report().stable_digest == OLD


def test_users_go_first(triton, desk, wire) -> None:
    triton.users = 5
    found = desk()
    with pytest.raises(OperationFailed, match="running"):
        found.start(body(), Limits())
    assert (triton.asked, found.report().seconds_ago) == ([], None)
    triton.users = 4  # as many as golden probes leave room for
    wire.eventually(lambda: found.report().state is ComparisonState.DONE)
    assert {users for _, _, users in triton.asked} == {4}


def test_but_not_for_ever(triton, desk, wire) -> None:
    triton.users = 5
    found = desk(ProbeSettings(postpone_seconds=0.05))
    wire.eventually(lambda: found.report().state is ComparisonState.DONE)


@pytest.mark.parametrize("hanging", [False, True], ids=["waiting for users", "Triton hangs"])
def test_it_ends_with_the_tap(triton, desk, wire, hanging: bool) -> None:
    triton.users = 0 if hanging else 5
    if hanging:
        triton.hangs.clear()
    found = desk()
    wire.eventually(lambda: triton.asked or not hanging)
    found.stop()
    assert found.report().state is ComparisonState.FAILED
    assert found.report().result is None
    with pytest.raises(OperationFailed):
        found.start(body(), Limits())


def test_embeddings_of_another_length_are_another_space(triton, desk, wire) -> None:
    triton.width = 3
    found = desk()
    wire.eventually(lambda: found.report().state is not ComparisonState.RUNNING)
    assert found.report().result.space == "reindex"
    assert found.report().result.cosine.value == 0


def test_embeddings_of_other_lengths_are_another_space(triton, desk, wire) -> None:
    triton.scale = np.float32(1e-3)
    found = desk()
    wire.eventually(lambda: found.report().state is not ComparisonState.RUNNING)
    result = found.report().result
    assert (result.space, result.cosine.value, result.recall.value) == ("reindex", pytest.approx(1), 1)
    assert result.norm_ratio.high == pytest.approx(1e-3)


def test_what_is_not_finite_is_counted_and_the_rest_compared(triton, desk, wire) -> None:
    bad = int((ROWS[:, 0] > 0.5).sum())
    triton.breaks_above = 0.5
    found = desk()
    wire.eventually(lambda: found.report().state is ComparisonState.DONE)
    result = found.report().result
    assert (result.not_finite, result.pairs, result.live) == (bad, 50 - bad, 50 - bad)
    assert result.cosine.value == pytest.approx(1)
    assert f"{bad} of 50 embeddings of this revision hold NaN or infinity" in found.report().detail


def test_what_is_not_finite_at_stable_either_is_nobodys_fault(triton, desk, wire) -> None:
    triton.breaks_above = 0.5
    old = np.where(ROWS[:, :1] > 0.5, np.float32("inf"), ROWS)
    found = desk(PATIENT, body(old))
    wire.eventually(lambda: found.report().state is ComparisonState.DONE)
    result = found.report().result
    assert (result.not_finite, result.pairs, result.space) == (0, int((ROWS[:, 0] <= 0.5).sum()), "same")
