"""Inputs that are kept, carried and compared. Covered: bounds of rows and bytes, one call's share, duplicates, rows
that are no use, several shapes, there and back, heads that lie, misfits, golden rows, pieces over the process' line."""

import base64
import io

import numpy as np
import pytest

from latentry_serving.bundle.golden import save_golden
from latentry_serving.contract.comparison import (
    MOST_HEAD_BYTES,
    InputSource,
    SampleHead,
    split_sample,
)
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    ReconstructionError,
    TensorSpec,
)
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.oip import DecodedTensor
from latentry_serving.tap import compare_recent
from latentry_serving.tap.analysis_decode import Sample
from latentry_serving.tap.compare_recent import LiveInputs, RecentInputs
from latentry_serving.tap.compare_sample import (
    RecentRows,
    Rows,
    described,
    different,
    golden_rows,
    misfit,
    payload,
    unpacked,
)

DIGEST = "sha256:" + "1" * 64
X = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1,))
M = TensorSpec(name="mask", datatype=Datatype.BOOL, shape=(2,))
Y = TensorSpec(name="y", datatype=Datatype.FP32, shape=(3,))
ENCODE = OperationContract(model="m_encode", inputs=(X, M), outputs=(Y,))
CONTRACT = Contract(
    family=Family.ENCODER, latent_dimension=3, embedding_space="s", operations={Operation.ENCODE: ENCODE}
)
MANIFEST = BundleManifest(
    name="m", version="7", contract=CONTRACT, golden=Golden(samples=4, tolerances={}), files=(),
    provenance=Provenance(sources={}),
)  # fmt: skip
ROW_BYTES = 4 * 4 + 2 + 3 * 4


def sample(
    x: np.ndarray, y: np.ndarray | None = None, operation: str = "encode", types: dict[str, Datatype] | None = None
) -> Sample:
    def tensor(name: str, kind: Datatype, array: np.ndarray) -> DecodedTensor:
        return DecodedTensor(name, (types or {}).get(name, kind), array.shape, array)

    given = tensor("x", Datatype.FP32, x), tensor("mask", Datatype.BOOL, np.ones((len(x), 2), bool))
    answer = y if y is not None else np.full((len(x), 3), x[:, :1], np.float32)
    return Sample(operation, given, (tensor("y", Datatype.FP32, answer),), 1.0)


def numbered(*numbers: float, width: int = 4) -> np.ndarray:
    return np.repeat(np.array(numbers, np.float32)[:, None], width, axis=1)


def kept(rows: RecentRows) -> list[float]:
    return sorted(float(value) for group in rows.groups() for value in group.embeddings[:, 0])


def test_the_latest_rows_within_their_number() -> None:
    rows = RecentRows(CONTRACT, most_rows=3, most_bytes=10**6)
    for number in range(10):
        rows.add(sample(numbered(number)))
    assert kept(rows) == [7, 8, 9]
    assert rows.bytes == 3 * ROW_BYTES


def test_and_within_their_bytes() -> None:
    rows = RecentRows(CONTRACT, most_rows=1000, most_bytes=5 * ROW_BYTES + 1)
    for number in range(100):
        rows.add(sample(numbered(number)))
        assert rows.bytes <= 5 * ROW_BYTES + 1
    assert kept(rows) == [95, 96, 97, 98, 99]
    rows.add(sample(numbered(1, width=1000)))  # larger than all that may be kept: the others stay
    assert kept(rows) == [95, 96, 97, 98, 99]


def test_what_is_kept_holds_no_call_alive() -> None:
    rows = RecentRows(CONTRACT, most_rows=10, most_bytes=10**6)
    x = numbered(1)
    rows.add(sample(x))
    x[:] = 9
    assert rows.groups()[0].inputs["x"].tolist() == [[1, 1, 1, 1]]


def test_one_call_is_no_sample_of_the_traffic() -> None:
    rows = RecentRows(CONTRACT, most_rows=80, most_bytes=10**6)
    rows.add(sample(numbered(*range(500))))
    assert len(rows) == 10


def test_an_input_that_comes_again_is_one_input_with_its_latest_embedding() -> None:
    rows = RecentRows(CONTRACT, most_rows=10, most_bytes=10**6)
    for value in (5.0, 6.0):
        rows.add(sample(numbered(1), np.full((1, 3), value, np.float32)))
    assert kept(rows) == [6]
    assert rows.bytes == ROW_BYTES


@pytest.mark.parametrize(
    "useless",
    [
        sample(numbered(1), operation="decode"),
        sample(numbered(1), np.ones((2, 3), np.float32)),
        sample(numbered(1), np.ones(3, np.float32)),
        sample(numbered(1), types={"x": Datatype.FP64}),
        sample(numbered(1), types={"mask": Datatype.UINT8}),
        Sample("encode", (), (), 1.0),
        Sample("encode", sample(numbered(1)).request, (), 1.0),
        Sample("encode", sample(numbered(1)).request[:1], sample(numbered(1)).response, 1.0),
    ],
)
def test_calls_that_are_no_use(useless: Sample) -> None:
    rows = RecentRows(CONTRACT, most_rows=10, most_bytes=10**6)
    rows.add(useless)
    assert len(rows) == 0


def test_embeddings_that_are_not_finite_are_left_out_and_counted() -> None:
    rows = RecentRows(CONTRACT, most_rows=100, most_bytes=10**6)
    rows.add(sample(numbered(1, 2, 3), np.array([[1, 1, 1], [np.nan, 1, 1], [1, np.inf, 1]], np.float32)))
    assert (len(rows), rows.not_finite) == (1, 2)


ERRORS = [0.5, 0.1, float("nan")]


def test_errors_travel_with_their_rows() -> None:
    scored = Rows(InputSource.LIVE, sample_inputs(1, 2, 1), numbered(1, 2, 1, width=3), np.array(ERRORS))
    head, data = split_sample(packed([*some_groups(), scored]))
    assert head.groups[-1].reconstruction_errors == (0.5, 0.1, None)
    *others, back = unpacked(head, data)
    assert [rows.errors for rows in others] == [None, None]
    assert np.array_equal(back.errors, ERRORS, equal_nan=True)
    (once,) = different([back])
    assert once.errors.tolist() == [0.5, 0.1]


def sample_inputs(*numbers: float) -> dict[str, np.ndarray]:
    return {"x": numbered(*numbers), "mask": np.ones((len(numbers), 2), bool)}


def test_golden_errors_are_those_that_were_recorded_for_these_inputs(tmp_path) -> None:
    error = TensorSpec(name="reconstruction_error", datatype=Datatype.FP32, shape=(1,))
    score = OperationContract(model="m_score", inputs=(X, M), outputs=(error,))
    operations = {Operation.ENCODE: ENCODE, Operation.SCORE: score}

    def errors(inputs: dict[str, np.ndarray], **contract: object) -> list[float] | None:
        update = {"operations": operations, "reconstruction_error": ReconstructionError.MEAN_SQUARED} | contract
        manifest = MANIFEST.model_copy(update={"contract": CONTRACT.model_copy(update=update)})
        save_golden(tmp_path, Operation.ENCODE, sample_inputs(1, 2, 3), {"y": numbered(1, 2, 3, width=3)})
        save_golden(tmp_path, Operation.SCORE, inputs, {error.name: np.array([[0.5], [1.5], [2.5]], np.float32)})
        found = golden_rows(tmp_path, manifest, most_bytes=2 * ROW_BYTES).errors
        return found.tolist() if found is not None else None

    assert errors(sample_inputs(1, 2, 3)) == [0.5, 1.5]
    assert errors(sample_inputs(1, 2, 4)) is None
    assert errors(sample_inputs(1, 2, 3), reconstruction_error=None) is None
    other = score.model_copy(update={"inputs": (M, X)})
    assert errors(sample_inputs(1, 2, 3), operations=operations | {Operation.SCORE: other}) is None
    assert errors(sample_inputs(1, 2, 3), operations={Operation.ENCODE: ENCODE}) is None


def packed(groups: list[Rows]) -> bytes:
    head = SampleHead(
        digest=DIGEST, version="7", embedding_space="s", dimensions=3,
        groups=tuple(described(rows, ENCODE) for rows in groups),
    )  # fmt: skip
    data = b"".join(piece for rows in groups for piece in payload(rows, ENCODE))
    return head.model_dump_json(by_alias=True).encode() + b"\n" + data


def some_groups() -> list[Rows]:
    rows = RecentRows(CONTRACT, most_rows=100, most_bytes=10**6)
    rows.add(sample(numbered(1, 2)))
    rows.add(sample(numbered(3, 4, 5, width=6)))
    return rows.groups()


def test_there_and_back_with_several_shapes() -> None:
    groups = some_groups()
    head, data = split_sample(packed(groups))
    back = unpacked(head, data)
    assert [rows.inputs["x"].shape for rows in back] == [(2, 4), (3, 6)]
    for one, two in zip(groups, back, strict=True):
        assert one.source is two.source is InputSource.LIVE
        assert np.array_equal(one.embeddings, two.embeddings)
        assert all(np.array_equal(one.inputs[name], two.inputs[name]) for name in ("x", "mask"))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-1],
        lambda body: body + b"0",
        lambda body: body.replace(b'"rows":3', b'"rows":4'),
        lambda body: body.replace(b'"rows":3', b'"rows":2048'),
        lambda body: body.replace(b'"rows":3', b'"rows":-3'),
        lambda body: body.replace(b"[6]", b"[-6]"),
        lambda body: body.replace(b"[6]", b"[0]"),
        lambda body: body.replace(b"[6]", b"[999999999999]"),
        lambda body: body.replace(b'"FP32"', b'"BYTES"'),
        lambda body: body.replace(b'"dimensions":3', b'"dimensions":99999999'),
        lambda body: body.replace(b'"schemaVersion":1', b'"schemaVersion":2'),
        lambda body: body.replace(b'"live"', b'"gossip"'),
        lambda body: b"x" * (MOST_HEAD_BYTES + 10) + body,
        lambda body: body[body.index(b"\n") + 1 :],
        lambda _: b"",
    ],
)
def test_bytes_that_are_no_sample(change) -> None:
    with pytest.raises(InvalidInput):
        split_sample(change(packed(some_groups())))


def test_rows_without_elements_are_refused() -> None:
    body = packed([Rows(InputSource.LIVE, {"x": np.zeros((2, 0)), "mask": np.ones((2, 2))}, np.zeros((2, 3)))])
    with pytest.raises(InvalidInput, match=r"input x as FP32 \[0\]"):
        split_sample(body)


def test_each_input_counts_once() -> None:
    groups = some_groups()
    found = different([*groups, *some_groups(), Rows(InputSource.GOLDEN, groups[0].inputs, groups[0].embeddings)])
    assert sum(len(rows.embeddings) for rows in found) == 5
    assert {rows.source for rows in found} == {InputSource.LIVE}


def test_inputs_that_the_candidate_does_not_take() -> None:
    head, _ = split_sample(packed(some_groups()))
    assert misfit(head, ENCODE) == ""
    fixed = ENCODE.model_copy(update={"inputs": (X.model_copy(update={"shape": (4,)}), M)})
    assert "FP32 [6], this one takes FP32 [4]" in misfit(head, fixed)
    wide = ENCODE.model_copy(update={"inputs": (X.model_copy(update={"datatype": Datatype.FP16}), M)})
    assert "this one takes FP16 [-1]" in misfit(head, wide)
    assert "takes mask, x, this one takes x" in misfit(head, ENCODE.model_copy(update={"inputs": (X,)}))


def test_golden_rows_within_their_bytes(tmp_path) -> None:
    inputs = {"x": numbered(1, 2, 3, 4), "mask": np.ones((4, 2), bool)}
    save_golden(tmp_path, Operation.ENCODE, inputs, {"y": numbered(1, 2, 3, 4, width=3)})
    assert len(golden_rows(tmp_path, MANIFEST, most_bytes=10**6).embeddings) == 4
    assert len(golden_rows(tmp_path, MANIFEST, most_bytes=3 * ROW_BYTES + 1).embeddings) == 3
    assert golden_rows(tmp_path, MANIFEST, most_bytes=ROW_BYTES) is None
    text = MANIFEST.contract.operations[Operation.ENCODE].model_copy(
        update={"inputs": (TensorSpec(name="x", datatype=Datatype.BYTES, shape=(1,)),)}
    )
    contract = CONTRACT.model_copy(update={"operations": {Operation.ENCODE: text}})
    with pytest.raises(ValueError, match="cannot be carried"):
        golden_rows(tmp_path, MANIFEST.model_copy(update={"contract": contract}), most_bytes=10**6)


class Pipe:
    """The process' standard output, read at once."""

    def __init__(self, recent: RecentInputs) -> None:
        self.recent, self.longest = recent, 0

    def write(self, line: bytes) -> int:
        assert line.endswith(b"\n")
        self.longest = max(self.longest, len(line))
        assert self.recent.take(line)
        return len(line)


def test_from_the_process_to_the_tap() -> None:
    recent = RecentInputs()
    pipe = Pipe(recent)
    rows = RecentRows(CONTRACT, most_rows=1000, most_bytes=10**8)
    live = LiveInputs(MANIFEST, rows, pipe, DIGEST)
    for number in range(200):
        live.consume(sample(numbered(number, width=1000)))
    body = recent.ask(lambda number: live.control({"control": "inputs", "number": number}, b""))
    head, _ = split_sample(body)
    assert (head.rows(InputSource.LIVE), head.digest, head.dimensions) == (200, DIGEST, 3)
    assert len(body) > pipe.longest > 200_000  # in pieces: no line holds the traffic's thread up for long
    live.control({"control": "score", "rows": 3}, b"")
    assert live.step() is None


def test_an_answer_that_comes_too_late_is_not_mixed_into_the_next(monkeypatch) -> None:
    monkeypatch.setattr(compare_recent, "ANSWER_SECONDS", 0.01)
    recent, late = RecentInputs(), []
    assert recent.ask(late.append) is None

    def order(number: int) -> None:
        for old in (b"I%d " % late[0] + base64.b64encode(b"old") + b"\n", b"I%d \n" % late[0]):
            assert recent.take(old)
        recent.take(b"I%d " % number + base64.b64encode(b"new") + b"\n")
        recent.take(b"I%d \n" % number)

    assert recent.ask(order) == b"new"
    assert not recent.take(b"[[null, {}]]\n")
    assert not recent.take(b"R{}\tnull\n")


def test_without_traffic_the_sample_is_empty() -> None:
    sink = io.BytesIO()
    live = LiveInputs(MANIFEST, RecentRows(CONTRACT, most_rows=5, most_bytes=100), sink, DIGEST)
    live.control({"control": "inputs", "number": 1}, b"")
    pieces = [line.partition(b" ")[2] for line in sink.getvalue().splitlines()]
    assert split_sample(b"".join(map(base64.b64decode, pieces)))[0].groups == ()
