"""A bundle may have many golden rows: a probe sends a few of them, spread, in batches that the model takes."""

import threading
from pathlib import Path

import numpy as np
import pytest

from latentry_serving.bundle.golden import save_golden
from latentry_serving.bundle.recorded import REPLAYED_ROWS, spread_rows
from latentry_serving.bundle.store import file_entries
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
from latentry_serving.contract.tap_config import Address, ProbeSettings
from latentry_serving.tap import probes
from latentry_serving.tap.bundle_source import BundleSource
from latentry_serving.tap.probes import Prober

ROWS = np.arange(200, dtype=np.float32).reshape(100, 2)


class Triton:
    """Knows how many rows its models take."""

    def __init__(self, *_: object, silence_seconds: float) -> None:
        pass

    def __enter__(self) -> "Triton":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def model_config(self, _: str) -> dict[str, int]:
        return {"max_batch_size": 3}


def source(folder: Path, samples: int) -> BundleSource:
    tensors = [TensorSpec(name=name, datatype=Datatype.FP32, shape=(2,)) for name in ("x", "y")]
    encode = OperationContract(model="tiny_encode", inputs=(tensors[0],), outputs=(tensors[1],))
    contract = Contract(
        family=Family.ENCODER, latent_dimension=2, embedding_space="tiny", operations={Operation.ENCODE: encode}
    )
    save_golden(folder, Operation.ENCODE, {"x": ROWS[:samples]}, {"y": 2 * ROWS[:samples]})
    manifest = BundleManifest(
        name="tiny",
        version="1",
        contract=contract,
        golden=Golden(samples=samples, tolerances={Operation.ENCODE: Tolerance(absolute=0, relative=0)}),
        files=file_entries(folder),
        provenance=Provenance(sources={}),
    )
    (folder / "bundle.json").write_bytes(manifest.to_bytes())
    return BundleSource(folder, None)


@pytest.mark.parametrize(("samples", "sizes"), [(100, [3, 3, 2]), (REPLAYED_ROWS, [3, 3, 2]), (2, [2])])
def test_a_few_rows_are_sent(samples: int, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[np.ndarray] = []

    def infer(_: object, __: object, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sent.append(inputs["x"])
        return {"y": 2 * inputs["x"]}

    monkeypatch.setattr(probes, "TritonHttp", Triton)
    monkeypatch.setattr(probes, "infer", infer)
    prober = Prober(
        source(tmp_path, samples),
        ProbeSettings(),
        Address(host="127.0.0.1", port=1),
        in_flight=lambda: 0,
        clock=lambda: 0.0,
        unix_offset_s=0.0,
        stop=threading.Event(),
    )
    assert prober.round()
    assert [len(rows) for rows in sent] == [size for size in sizes for _ in range(2)], "each twice in a row"
    np.testing.assert_array_equal(np.concatenate(sent[::2]), ROWS[spread_rows(samples, REPLAYED_ROWS)])
