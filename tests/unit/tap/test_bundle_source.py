"""The bundle before it serves: what its manifest tells, the check of its files, waiting for it to appear."""

import asyncio
import threading
from pathlib import Path

import pytest

from latentry_serving.bundle.store import file_entries
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.manifest import (
    BundleManifest,
    Contract,
    Datatype,
    Golden,
    OperationContract,
    Provenance,
    TensorSpec,
)
from latentry_serving.contract.metrics import BundleState
from latentry_serving.contract.operations import Family, Operation
from latentry_serving.contract.tap_config import TapConfig
from latentry_serving.tap.bundle_source import BundleSource, Stopped, bundle_appears, open_bundle

X = TensorSpec(name="x", datatype=Datatype.FP32, shape=(4,))
OTHER_DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(bytes(3_000_000))
    operations = {Operation.ENCODE: OperationContract(model="tiny_encode", inputs=(X,), outputs=(X,))}
    manifest = BundleManifest(
        name="tiny",
        version="7",
        contract=Contract(family=Family.ENCODER, latent_dimension=4, embedding_space="words", operations=operations),
        golden=Golden(samples=1, tolerances={}),
        files=file_entries(tmp_path),
        provenance=Provenance(sources={}),
    )
    (tmp_path / "bundle.json").write_bytes(manifest.to_bytes())
    return tmp_path


def test_without_a_bundle_nothing_changes():
    assert open_bundle(TapConfig()) is None


def test_the_manifest_tells_version_digest_and_operations(folder):
    config = TapConfig(bundle_dir=str(folder), version="written by hand")
    source = open_bundle(config)
    applied = source.applied_to(config)
    assert (applied.version, applied.embedding_space) == ("7", "words")
    assert applied.operations == {"tiny_encode": Operation.ENCODE}
    assert applied.digest == source.manifest.digest


def test_checked_and_good(folder):
    source = BundleSource(folder, BundleSource(folder, None).digest)
    assert source.state is BundleState.CHECKING
    assert source.reasons() == ["checking the bundle's files: 0 of 3 MB"]
    source.check(threading.Event())
    assert (source.state, source.reasons()) == (BundleState.VERIFIED, [])


def test_another_digest_is_known_at_once_and_final(folder):
    source = BundleSource(folder, OTHER_DIGEST)
    source.check(threading.Event())
    assert source.state is BundleState.REFUSED
    (reason,) = source.reasons()
    assert f"digest is {source.digest}, promised was {OTHER_DIGEST}" in reason


def test_the_digest_that_is_there_is_shown_not_the_promised_one(folder):
    config = TapConfig(bundle_dir=str(folder), digest=OTHER_DIGEST)
    assert open_bundle(config).applied_to(config).digest == BundleSource(folder, None).digest


def test_many_problems_are_counted(folder):
    for number in range(5):
        (folder / f"extra{number}").touch()
    source = BundleSource(folder, None)
    source.check(threading.Event())
    assert len(source.problems) == 5
    assert source.reasons()[0].endswith("extra2 is not listed in the manifest; and 2 more")


def test_a_stop_ends_the_check(folder):
    stop = threading.Event()
    stop.set()
    source = BundleSource(folder, None)
    with pytest.raises(Stopped):
        source.check(stop)
    assert source.state is BundleState.CHECKING


def test_a_manifest_that_cannot_be_read(folder):
    (folder / "bundle.json").write_text("no json")
    with pytest.raises(InvalidInput, match="Invalid JSON"):
        BundleSource(folder, None)


async def test_a_bundle_that_appears_late_is_waited_for(folder):
    manifest = folder / "bundle.json"
    content = manifest.read_bytes()
    manifest.unlink()
    waiting = asyncio.create_task(bundle_appears(TapConfig(bundle_dir=str(folder)), seconds=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    manifest.write_bytes(content)
    await waiting


async def test_a_bundle_that_never_appears(tmp_path):
    with pytest.raises(OperationFailed, match=r"no bundle in .*: bundle\.json is missing; mount the bundle there"):
        await bundle_appears(TapConfig(bundle_dir=str(tmp_path)), seconds=0)
