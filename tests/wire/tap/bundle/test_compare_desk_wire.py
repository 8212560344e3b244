"""A comparison gives way to users and to the tap's end. A played Triton that says when it was asked. Covered: users
first, but not for ever; marks and sizes of its calls; stopping while it waits, while Triton hangs; odd answers; scores
of both versions on the same inputs, and the stable revision's own scores of what it hands out."""

import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from played_http import Answer, Call, PlayedHttp

from latentry_serving.bundle.golden import save_golden
from latentry_serving.contract.comparison import (
    ComparisonState,
    InputSource,
    Reconstruction,
    SampleGroup,
    SampleHead,
    SampleInput,
    split_sample,
)
from latentry_serving.contract.errors import InvalidInput, OperationFailed
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
from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.tap.compare_desk import CompareDesk, Limits
from latentry_serving.tap.compare_sample import Rows, unpacked
from latentry_serving.tap.comparing import Comparing

X, Y = (TensorSpec(name=name, datatype=Datatype.FP32, shape=(4,)) for name in "xy")
ENCODE = OperationContract(model="m", inputs=(X,), outputs=(Y,))
CONTRACT = Contract(
    family=Family.ENCODER, latent_dimension=4, embedding_space="s", operations={Operation.ENCODE: ENCODE}
)
ROWS = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
OLD, NEW = (f"sha256:{digit * 64}" for digit in "12")
PATIENT = ProbeSettings(postpone_seconds=60, timeout_seconds=60)


SQUARED = ReconstructionError.MEAN_SQUARED
ERROR = TensorSpec(name="reconstruction_error", datatype=Datatype.FP32, shape=(1,))
SCORE = OperationContract(model="m_score", inputs=(X,), outputs=(ERROR,))
SCORED = CONTRACT.model_copy(
    update={
        "family": Family.AUTOENCODER,
        "operations": {Operation.ENCODE: ENCODE, Operation.SCORE: SCORE},
        "reconstruction_error": SQUARED,
    }
)
ERRORS = (ROWS**2).mean(axis=1)
"""What the played score answers, as of a model that reconstructs zeros."""


def body(
    old: np.ndarray = ROWS,
    *,
    errors: np.ndarray | None = None,
    kind: ReconstructionError | None = None,
    space: str = "s",
) -> bytes:
    group = SampleGroup(
        source=InputSource.LIVE,
        rows=len(ROWS),
        inputs=(SampleInput(name="x", datatype=Datatype.FP32, shape=(4,)),),
        reconstruction_errors=tuple(None if np.isnan(e) else float(e) for e in errors) if errors is not None else (),
    )
    head = SampleHead(
        digest=OLD, version="1", embedding_space=space, dimensions=4, groups=(group,), reconstruction_error=kind
    )
    return head.model_dump_json(by_alias=True).encode() + b"\n" + ROWS.tobytes() + old.tobytes()


class PlayedTriton(PlayedHttp):
    """Answers encode with its input, score with its mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str | None, int, int]] = []
        """Mark, rows, and users in flight at that time."""
        self.users = 0
        self.width = 4
        self.scale = np.float32(1)
        self.error_scale = np.float32(1)
        self.breaks_above = np.inf
        """First number of an input beyond which its embedding is NaN."""
        self.hangs = threading.Event()
        self.hangs.set()

    def answer(self, call: Call) -> Answer:
        if call.method == "GET":
            return Answer(b'{"max_batch_size": 20}')
        cut = int(call.headers["Inference-Header-Content-Length"])
        rows = json.loads(call.body[:cut])["inputs"][0]["shape"][0]
        self.asked.append((call.headers["latentry-probe"], rows, self.users))
        self.hangs.wait(30)
        x = np.frombuffer(call.body[cut:], "<f4").reshape(rows, 4)
        found = np.where(x[:, :1] > self.breaks_above, np.float32("nan"), x * self.scale)
        name, width = ("reconstruction_error", 1) if "m_score" in call.path else ("y", self.width)
        if name != "y":
            found = (found**2).mean(axis=1, keepdims=True) * self.error_scale
        y = np.ascontiguousarray(found[:, :width], np.float32).tobytes()
        output = {"name": name, "datatype": "FP32", "shape": [rows, width]}
        output["parameters"] = {"binary_data_size": len(y)}
        head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
        return Answer(head + y, headers={"Inference-Header-Content-Length": str(len(head))})


@pytest.fixture
def triton() -> Iterator[PlayedTriton]:
    with PlayedTriton() as script:
        yield script
        script.hangs.set()


@pytest.fixture
def desk(triton):
    """``desk(settings)``: a started one."""
    desks = []

    def start(
        settings: ProbeSettings = PATIENT, sample: bytes | None = b"", contract: Contract = CONTRACT
    ) -> CompareDesk:
        source = SimpleNamespace(manifest=SimpleNamespace(contract=contract, version="2"), digest=NEW)
        address = Address(port=triton.port)
        found = CompareDesk(source, settings, address, in_flight=lambda: triton.users, clock=time.monotonic)
        desks.append(found)
        if sample is not None:
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


def scored(desk, wire, sample: bytes, contract: Contract = SCORED) -> Reconstruction | None:
    found = desk(PATIENT, sample, contract)
    wire.eventually(lambda: found.report().state is not ComparisonState.RUNNING)
    assert found.report().state is ComparisonState.DONE, found.report().detail
    return found.report().result.reconstruction


def test_a_worse_model_is_seen_also_in_a_new_space(triton, desk, wire) -> None:
    triton.error_scale = np.float32(3)
    found = scored(desk, wire, body(errors=ERRORS, kind=SQUARED, space="other"))
    assert (found.inputs, found.not_finite, found.unavoidable) == (50, 0, 0)
    assert found.stable == pytest.approx(ERRORS.mean(), rel=1e-5)
    assert found.candidate == pytest.approx(3 * ERRORS.mean(), rel=1e-5)
    # a hundredth of what the inputs' mean would give is added to both
    far = 0.01 * ROWS.var(axis=0).mean()
    assert found.ratio.value == pytest.approx((3 * ERRORS.mean() + far) / (ERRORS.mean() + far), rel=1e-4)
    assert 2.9 < found.ratio.low <= found.ratio.value <= found.ratio.high < 3


def test_as_good_a_model(triton, desk, wire) -> None:
    found = scored(desk, wire, body(errors=ERRORS, kind=SQUARED))
    assert (found.ratio.low, found.ratio.value, found.ratio.high) == pytest.approx((1, 1, 1), abs=1e-5)
    assert [mark for mark, *_ in triton.asked] == ["compare"] * 6


def test_errors_that_are_not_finite_are_counted_and_the_rest_compared(triton, desk, wire) -> None:
    triton.breaks_above = 0.5
    bad = ROWS[:, 0] > 0.5
    old = ERRORS.copy()
    unknown = int(np.flatnonzero(bad)[0]), int(np.flatnonzero(~bad)[0])
    old[list(unknown)] = np.nan
    found = scored(desk, wire, body(errors=old, kind=SQUARED))
    assert (found.inputs, found.not_finite) == (int((~bad).sum()) - 1, int(bad.sum()) - 1)
    assert found.ratio.value == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("contract", "given"),
    [
        (CONTRACT, {"errors": ERRORS, "kind": SQUARED}),
        (SCORED, {"kind": SQUARED}),
        (SCORED, {"errors": np.full(50, np.nan), "kind": SQUARED}),
        (SCORED, {"errors": ERRORS}),
        (SCORED, {"errors": ERRORS, "kind": ReconstructionError.MEAN_ABSOLUTE}),
    ],
    ids=["no score here", "none there", "none known there", "of no kind", "of another kind"],
)
def test_errors_that_do_not_mean_the_same_are_not_compared(triton, desk, wire, contract, given) -> None:
    assert scored(desk, wire, body(**given), contract) is None
    assert len(triton.asked) == 3, "embeddings only"


def test_a_sample_that_lies_about_its_errors_is_refused(desk) -> None:
    with pytest.raises(InvalidInput, match="49 reconstruction errors of 50 rows"):
        desk(PATIENT, body(errors=ERRORS[:49], kind=SQUARED))


def test_what_is_handed_out_is_scored_by_who_hands_it_out(triton, desk) -> None:
    stable = desk(PATIENT, None, SCORED)
    live = Rows(InputSource.LIVE, {"x": ROWS}, ROWS)
    (rows,), note = stable.with_errors([live])
    assert note == ""
    assert rows.errors == pytest.approx(ERRORS, rel=1e-5)
    assert desk(PATIENT, None, CONTRACT).with_errors([live]) == ([live], "")
    stable.stop()
    (rows,), note = stable.with_errors([live])
    assert (rows.errors, note) == (None, "live inputs come without reconstruction errors: the tap stops")


def test_live_inputs_leave_with_scores_and_golden_ones_with_those_recorded(triton, desk, tmp_path) -> None:
    golden, recorded = ROWS[:5] + 1, np.arange(5, dtype=np.float32)[:, None]
    save_golden(tmp_path, Operation.ENCODE, {"x": golden}, {"y": golden})
    save_golden(tmp_path, Operation.SCORE, {"x": golden}, {ERROR.name: recorded})
    manifest = BundleManifest(
        name="m", version="1", contract=SCORED, golden=Golden(samples=5, tolerances={}), files=(),
        provenance=Provenance(sources={}),
    )  # fmt: skip
    source = SimpleNamespace(manifest=manifest, digest=OLD, directory=tmp_path, state=BundleState.VERIFIED)
    address = Address(port=triton.port)
    stable = Comparing(source, address, desk(PATIENT, None, SCORED), lambda: body())
    head, payload = split_sample(stable.sample())
    first, second = unpacked(head, payload)
    assert (head.reconstruction_error, head.note) == (SQUARED, "")
    assert (first.source, first.errors.tolist()) == (InputSource.GOLDEN, [0, 1, 2, 3, 4])
    assert second.source is InputSource.LIVE
    assert second.errors == pytest.approx(ERRORS, rel=1e-5)
    assert np.array_equal(second.embeddings, ROWS)
    triton.close()
    head, payload = split_sample(stable.sample())
    assert [rows.errors is None for rows in unpacked(head, payload)] == [False, True]
    assert "live inputs come without reconstruction errors" in head.note
