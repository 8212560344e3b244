"""A candidate compared with the stable revision: real taps in front of real Tritons, the sample carried as a body
carries it. Covered: the same space, a rotated one with a map that works, an unrelated one, without opting in golden
inputs only, NaN, other inputs, a dead Triton, a second comparison at the same time, bodies that are none, the document
`/evidence`, and that no user's figures know of any of it."""

import hashlib
import json
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from latentry_serving.bundle.golden import save_golden
from latentry_serving.bundle.store import file_entries
from latentry_serving.contract.comparison import (
    SAMPLE_CONTENT_TYPE,
    ComparisonReport,
    ComparisonState,
    InputSource,
    split_sample,
)
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
    Tolerance,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_evidence import TapEvidence
from latentry_serving.triton.model_config import ModelConfig, TensorConfig

WIDTH, DIMENSIONS, GOLDEN, MOST_BATCH = 16, 6, 40, 8
RNG = np.random.default_rng(11)
WEIGHTS = RNG.normal(size=(WIDTH, DIMENSIONS)).astype(np.float32)
ROTATION = np.linalg.qr(RNG.normal(size=(DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)
ENCODERS = {
    "stable": WEIGHTS,
    "same": WEIGHTS * np.float32(1.001),
    "rotated": WEIGHTS @ ROTATION,
    "unrelated": RNG.normal(size=(WIDTH, DIMENSIONS)).astype(np.float32),
    "broken": WEIGHTS * np.float32("nan"),
}
INPUTS = RNG.normal(size=(GOLDEN, WIDTH)).astype(np.float32)
X = TensorSpec(name="x", datatype=Datatype.FP32, shape=(WIDTH,))
Y = TensorSpec(name="embedding", datatype=Datatype.FP32, shape=(DIMENSIONS,))


def manifest(name: str, x: TensorSpec = X) -> BundleManifest:
    operations = {Operation.ENCODE: OperationContract(model=f"{name}_encode", inputs=(x,), outputs=(Y,))}
    return BundleManifest(
        name=name, version=name,
        contract=Contract(
            family=Family.ENCODER, latent_dimension=DIMENSIONS, embedding_space="s", operations=operations
        ),
        golden=Golden(samples=GOLDEN, tolerances={Operation.ENCODE: Tolerance(absolute=1e-4, relative=1e-4)}),
        files=(), provenance=Provenance(sources={}),
    )  # fmt: skip


def write_bundle(root: Path, name: str, x: TensorSpec = X) -> Path:
    folder = root / f"bundle-{name}"
    inputs = INPUTS if x is X else np.zeros((GOLDEN, *x.shape), np.float32)
    save_golden(folder, Operation.ENCODE, {"x": inputs}, {"embedding": INPUTS @ ENCODERS.get(name, WEIGHTS)})
    sealed = manifest(name, x).model_copy(update={"files": file_entries(folder)})
    (folder / "bundle.json").write_bytes(sealed.to_bytes())
    return folder


def write_model(root: Path, name: str) -> None:
    values = [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, ["batch", *t.shape]) for t in (X, Y)]
    node = helper.make_node("MatMul", ["x", "w"], ["embedding"])
    graph = helper.make_graph([node], name, values[:1], values[1:], [numpy_helper.from_array(ENCODERS[name], "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    target = root / "repository" / f"{name}_encode" / "1"
    target.mkdir(parents=True)
    onnx.save(model, target / "model.onnx")
    config = ModelConfig(
        name=f"{name}_encode", backend="onnxruntime", max_batch_size=MOST_BATCH,
        inputs=(TensorConfig.of(X),), outputs=(TensorConfig.of(Y),),
    )  # fmt: skip
    (target.parent / "config.pbtxt").write_text(config.to_pbtxt())


def models(names: list[str]) -> BundleManifest:
    """What the local repository is written from: several encoders in one Triton."""
    operations = dict(zip(Operation, [manifest(name) for name in names], strict=False))
    contracts = {op: one.contract.operations[Operation.ENCODE] for op, one in operations.items()}
    base = manifest(names[0])
    return base.model_copy(update={"contract": base.contract.model_copy(update={"operations": contracts})})


@pytest.fixture(scope="module")
def two_tritons(running_triton, tmp_path_factory):
    """Stable's, and one with all candidates' encoders."""
    found = []
    for names in (["stable"], [name for name in ENCODERS if name != "stable"]):
        root = tmp_path_factory.mktemp("encoders")
        for name in names:
            write_model(root, name)
        found.append(running_triton(root, models(names)).addresses)
    return found


@pytest.fixture
def revision_tap(two_tritons, start_tap, tmp_path):
    """``revision_tap(name, **settings)``: a tap with that bundle in front of its Triton."""

    def start(name: str, x: TensorSpec = X, **settings: object):
        addresses = two_tritons[0 if name == "stable" else 1]
        given = {"upstream_http": addresses.http, "upstream_grpc": addresses.grpc} | settings
        return start_tap(bundle_dir=write_bundle(tmp_path, name, x), probes="{everySeconds: 60}", **given)

    return start


def call(tap, x: np.ndarray) -> None:
    """A user's."""
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    url = f"http://127.0.0.1:{tap.ports['http']}/v2/models/stable_encode/infer"
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        assert answer.status == 200


def sample_of(tap, wire) -> bytes:
    """Once the bundle's files are checked."""
    wire.eventually(lambda: tap.get("/compare/sample")[0] == 200)
    return tap.get("/compare/sample")[1]


def post(tap, body: bytes, kind: str = SAMPLE_CONTENT_TYPE, query: str = "") -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{tap.ports['admin']}/compare{query}"
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def compared(tap, body: bytes, wire, query: str = "") -> ComparisonReport:
    status, answer = post(tap, body, query=query)
    assert status == 202, answer
    wire.eventually(lambda: report(tap).state is not ComparisonState.RUNNING)
    return report(tap)


def report(tap) -> ComparisonReport:
    return ComparisonReport.model_validate_json(tap.get("/compare")[1])


LIVE = "{maxPerSecond: 10000, recentInputs: 200}"


@pytest.fixture
def live_sample(revision_tap, wire) -> tuple[bytes, np.ndarray]:
    """Golden and 120 live inputs of a stable tap that its users have called, and those inputs."""
    tap, rows = revision_tap("stable", sampling=LIVE), RNG.normal(size=(120, WIDTH)).astype(np.float32)
    sample_of(tap, wire)

    def keeps() -> bool:
        for part in np.split(rows, 24):
            call(tap, part)  # again: the same input is one input, however often it comes
        return split_sample(tap.get("/compare/sample")[1])[0].rows(InputSource.LIVE) == len(rows)

    wire.eventually(keeps)
    return tap.get("/compare/sample")[1], rows


def test_the_same_space(live_sample, revision_tap, wire) -> None:
    tap = revision_tap("same")
    found = compared(tap, live_sample[0], wire)
    assert (found.state, found.result.space) == (ComparisonState.DONE, "same")
    assert (found.result.pairs, found.result.golden, found.result.live) == (160, GOLDEN, 120)
    assert found.result.cosine.low > 0.999
    assert 1.0005 < found.result.norm_ratio.low <= found.result.norm_ratio.high < 1.0015
    assert tap.slis().inference.total.requests == 0


def test_a_rotated_space_comes_with_a_map_that_works(live_sample, revision_tap, wire) -> None:
    tap = revision_tap("rotated")
    found = compared(tap, live_sample[0], wire)
    assert found.result.space == "alignable"
    assert found.result.recall.high < 0.95 <= found.result.aligned_recall.low
    status, array = tap.get("/compare/map.npy")
    about = json.loads(tap.get("/compare/map.json")[1])
    assert (status, about["sha256"]) == (200, hashlib.sha256(array).hexdigest())
    assert found.stable_digest in about["to"]
    matrix, fresh = np.load(BytesIO(array), allow_pickle=False), RNG.normal(size=(50, WIDTH)).astype(np.float32)
    assert np.allclose(fresh @ ENCODERS["rotated"] @ matrix, fresh @ WEIGHTS, atol=1e-3)


def test_an_unrelated_space(live_sample, revision_tap, wire) -> None:
    found = compared(revision_tap("unrelated"), live_sample[0], wire)
    assert found.result.space == "reindex"
    assert found.result.aligned_recall.high < 0.95


def test_without_opting_in_golden_inputs_only(revision_tap, wire) -> None:
    tap = revision_tap("stable", sampling="{maxPerSecond: 10000}")
    sample_of(tap, wire)
    call(tap, INPUTS[:4] + 1)
    head, payload = split_sample(sample_of(tap, wire))
    assert (head.rows(InputSource.GOLDEN), head.rows(InputSource.LIVE)) == (GOLDEN, 0)
    assert "liveInputs is 0" in head.note
    assert bytes(payload[: INPUTS.nbytes]) == INPUTS.tobytes()
    found = compared(revision_tap("rotated"), sample_of(tap, wire), wire)
    assert (found.result.live, found.result.space, found.result.map_bytes) == (0, "reindex", 0)


def test_embeddings_that_are_not_finite_are_counted(revision_tap, wire) -> None:
    body = sample_of(revision_tap("stable"), wire)
    found = compared(revision_tap("broken"), body, wire)
    assert found.state is ComparisonState.DONE
    assert "40 of 40 embeddings of this revision hold NaN" in found.detail
    assert (found.result.not_finite, found.result.pairs, found.result.space) == (40, 0, "undecided")


def test_failures_are_named(revision_tap, wire) -> None:
    body = sample_of(revision_tap("stable"), wire)
    other = revision_tap("wider", TensorSpec(name="x", datatype=Datatype.FP32, shape=(WIDTH + 1,)))
    assert "FP32 [16], this one takes FP32 [17]" in compared(other, body, wire).detail
    dead = revision_tap("same", upstream_http="127.0.0.1:1")
    assert "Triton at 127.0.0.1:1" in compared(dead, body, wire).detail
    assert TapEvidence.model_validate_json(dead.get("/evidence")[1]).contract.max_batch_sizes is None


def test_what_is_no_sample_is_refused(revision_tap, wire) -> None:
    tap = revision_tap("same")
    body = sample_of(tap, wire)
    assert post(tap, body, "text/plain")[0] == 415
    for wrong in (b"", b"{}\n", b"\xff" * 1000, body[:-1], body + b"0", body.replace(b'"rows":40', b'"rows":41')):
        assert post(tap, wrong)[0] == 422
    for query in ("?cosine=nan", "?normRatio=nan", "?normRatio=1", "?normRatio=inf"):
        assert post(tap, body, query=query)[0] == 422
    assert report(tap).state is ComparisonState.IDLE
    assert compared(tap, body, wire).state is ComparisonState.DONE
    assert tap.get("/compare/other")[0] == 404


def test_one_at_a_time(revision_tap, wire) -> None:
    tap = revision_tap("same")
    body = sample_of(tap, wire)
    statuses = [post(tap, body)[0] for _ in range(3)]
    assert statuses[0] == 202
    assert 409 in statuses[1:]
    wire.eventually(lambda: report(tap).state is ComparisonState.DONE)


def test_everything_that_gates_need_in_one_document(revision_tap, wire) -> None:
    tap = revision_tap("stable")
    body = sample_of(tap, wire)
    call(tap, INPUTS[:4])
    wire.eventually(lambda: tap.slis().inference.total.requests == 1)
    found = compared(tap, body, wire)
    evidence = TapEvidence.model_validate_json(tap.get("/evidence")[1])
    assert evidence.slis.inference.total.requests == sum(evidence.latency.inference.total) == 1
    assert evidence.contract.max_batch_sizes == {Operation.ENCODE: MOST_BATCH}
    assert evidence.contract.contract == manifest("stable").contract
    assert evidence.probes is not None
    assert evidence.comparison.result == found.result


def test_a_tap_without_a_bundle_has_evidence_too(start_tap, two_tritons) -> None:
    tap = start_tap(upstream_http=two_tritons[0].http, upstream_grpc=two_tritons[0].grpc)
    evidence = TapEvidence.model_validate_json(tap.get("/evidence")[1])
    assert (evidence.contract, evidence.comparison, evidence.probes) == (None, None, None)
    assert tap.get("/compare")[0] == 404
