"""How many golden calls a bundle records, which of them are run again, and that all are of the reference."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.bundle import golden, spec
from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.recorded import REPLAYED_ROWS, load_golden, spread_rows
from latentry_serving.bundle.session import Session
from latentry_serving.bundle.spec import MOST_GOLDEN_BYTES, BundleSpec, GoldenSpec
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.manifest import BundleManifest, Datatype, TensorSpec
from latentry_serving.contract.operations import Operation

MakeSpec = Callable[..., BundleSpec]
X = (TensorSpec(name="x", datatype=Datatype.FP32, shape=(2,)),)


@pytest.mark.parametrize(
    ("asked", "available", "row_bytes", "rows"),
    [
        (None, 10_000, 2_000, 128),
        (None, 40, 2_000, 40),
        (None, 8, 2_000, 8),
        (None, 10_000, 0, 128),
        (None, 10_000, MOST_GOLDEN_BYTES // 75, 75),
        (None, 10_000, MOST_GOLDEN_BYTES, 8),
        (3, 10_000, 2_000, 3),
        (1_000, 10_000, MOST_GOLDEN_BYTES, 1_000),
    ],
)
def test_as_many_as_a_recall_needs_and_as_fit(asked: int | None, available: int, row_bytes: int, rows: int) -> None:
    assert GoldenSpec(samples=asked).rows(available, row_bytes) == rows


def arrays(bundle: Path) -> Mapping[str, np.ndarray]:
    """Every golden array by its path."""
    folder = bundle / "golden"
    return {path.relative_to(folder).as_posix(): np.load(path) for path in folder.rglob("*.npy")}


def build(make_spec: MakeSpec, pristine: Path, out: Path, **changes: object) -> BundleManifest:
    return build_bundle(make_spec(profile=False, **changes), base_dir=pristine, out_dir=out)


def test_rows_are_spread_over_the_reference_and_recorded_alike(
    make_spec: MakeSpec, pristine: Path, tmp_path: Path
) -> None:
    many, few = tmp_path / "many", tmp_path / "few"
    assert build(make_spec, pristine, many).golden.samples == 128
    assert {len(array) for array in arrays(many).values()} == {128}
    reference = np.load(pristine / "reference.npy")
    given = arrays(many)["encode/inputs/image.npy"]
    np.testing.assert_array_equal(given, reference[spread_rows(len(reference), 128)])
    np.testing.assert_array_equal(given, arrays(many)["score/inputs/image.npy"])
    assert build(make_spec, pristine, few, golden={"samples": 2}).golden.samples == 2
    for name, array in arrays(few).items():
        if not name.startswith("sample/"):  # whose noise is drawn, not spread
            np.testing.assert_allclose(array, arrays(many)[name][[0, 127]], rtol=1e-4, atol=1e-5)


def test_rows_beyond_the_fewest_fit_in_the_bytes(
    make_spec: MakeSpec, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "MOST_GOLDEN_BYTES", 50_000)
    samples = build(make_spec, pristine, tmp_path / "out").golden.samples
    found = arrays(tmp_path / "out")
    size = sum(array.nbytes for array in found.values())
    assert 8 < samples < 128
    assert size <= 50_000 < size * (samples + 1) / samples
    assert {len(array) for array in found.values()} == {samples}


@pytest.mark.parametrize("samples", [None, 8])
def test_verify_runs_a_few_of_them(
    samples: int | None, make_spec: MakeSpec, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build(make_spec, pristine, tmp_path / "out", golden={"samples": samples})
    ran = []

    class Counting(Session):
        def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            ran.append(len(next(iter(inputs.values()))))
            return super().run(inputs)

    monkeypatch.setattr(golden, "Session", Counting)
    assert max(verify_bundle(tmp_path / "out").largest_differences.values()) < 1e-5
    assert ran == [REPLAYED_ROWS] * len(manifest.contract.operations)


def test_some_rows_are_read_alone(tmp_path: Path) -> None:
    folder = tmp_path / "golden" / "encode" / "inputs"
    folder.mkdir(parents=True)
    rows = np.arange(200, dtype=np.float32).reshape(100, 2)
    np.save(folder / "x.npy", rows)
    read = load_golden(tmp_path, Operation.ENCODE, "inputs", X, most=4)["x"]
    np.testing.assert_array_equal(read, rows[[0, 33, 66, 99]])
    assert not isinstance(read, np.memmap)
    assert len(load_golden(tmp_path, Operation.ENCODE, "inputs", X, most=500)["x"]) == 100
    np.testing.assert_array_equal(load_golden(tmp_path, Operation.ENCODE, "inputs", X)["x"], rows)
    np.save(folder / "x.npy", np.float32(1))
    with pytest.raises(ValueError, match="has no rows"):
        load_golden(tmp_path, Operation.ENCODE, "inputs", X, most=4)
    (folder / "x.npy").write_bytes(b"\x93NUMPY cut")
    with pytest.raises(ValueError):
        load_golden(tmp_path, Operation.ENCODE, "inputs", X, most=4)
