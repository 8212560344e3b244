"""verify finds every way in which a folder is not the promised bundle; staging leaves old bundles whole."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.store import file_entries, load_manifest, staged, verify_files
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.errors import InvalidInput, OperationFailed
from latentry_serving.contract.manifest import MANIFEST_FILE, BundleManifest

GRAPH = "repository/digits_decode/1/model.onnx"


def refused(bundle: Path, **options: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        verify_bundle(bundle, **options)
    return str(caught.value)


def reseal(bundle: Path) -> BundleManifest:
    """Writes a manifest that lists the files as they are now: what remains is for the graphs to show."""
    manifest = load_manifest(bundle).model_copy(update={"files": file_entries(bundle)})
    (bundle / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest


def test_a_good_bundle_passes_with_its_digest(built_vae: Path) -> None:
    manifest = load_manifest(built_vae)
    result = verify_bundle(built_vae, digest=manifest.digest)
    assert (result.digest, result.files) == (manifest.digest, len(manifest.files))
    assert all(difference == 0 for difference in result.largest_differences.values())
    assert {entry.path.partition("/")[0] for entry in manifest.files} == {"repository", "golden"}


def test_another_digest(built_vae: Path) -> None:
    said = refused(built_vae, digest="sha256:" + "0" * 64)
    assert load_manifest(built_vae).digest in said
    assert "expected sha256:000" in said


def test_a_manifest_written_otherwise_is_another_bundle(vae_bundle: Path) -> None:
    digest = load_manifest(vae_bundle).digest
    path = vae_bundle / MANIFEST_FILE
    path.write_bytes(path.read_bytes() + b"\n")
    assert "expected" in refused(vae_bundle, digest=digest)


def test_every_problem_is_named(vae_bundle: Path) -> None:
    graph = vae_bundle / GRAPH
    graph.write_bytes(graph.read_bytes()[:-1])
    (vae_bundle / "golden/encode/inputs/image.npy").unlink()
    config = vae_bundle / "repository/digits_encode/config.pbtxt"
    config.write_text(config.read_text().replace("32", "64"))
    (vae_bundle / "repository/digits_encode/1/model.py").write_text("import os")
    said = refused(vae_bundle)
    assert "bytes, expected" in said
    assert "image.npy: is missing" in said
    assert "config.pbtxt: has digest" in said
    assert "model.py: is not listed" in said


def test_a_manifest_that_leads_out_of_the_bundle(vae_bundle: Path) -> None:
    manifest = load_manifest(vae_bundle)
    entry = manifest.files[0].model_copy(update={"path": "../secret"})
    changed = manifest.model_copy(update={"files": (entry, *manifest.files[1:])})
    (vae_bundle / MANIFEST_FILE).write_bytes(changed.to_bytes())
    assert "../secret: leads out of the bundle" in refused(vae_bundle)


def test_a_graph_that_does_not_load(vae_bundle: Path) -> None:
    (vae_bundle / GRAPH).write_bytes(b"no graph")
    reseal(vae_bundle)
    assert f"{GRAPH}: does not run" in refused(vae_bundle)


def test_a_graph_that_gives_something_else(vae_bundle: Path) -> None:
    model = onnx.load(vae_bundle / GRAPH)
    weight = next(w for w in model.graph.initializer if w.name.endswith("weight"))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.5)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, vae_bundle / GRAPH)
    reseal(vae_bundle)
    said = refused(vae_bundle)
    assert "reconstruction differs from its golden output by up to" in said
    assert "allowed are 0.0001 + 0.001" in said


@pytest.mark.parametrize(("offset", "passes"), [(0.8e-4, True), (10e-4, False)])
def test_tolerances_decide(vae_bundle: Path, offset: float, passes: bool) -> None:
    path = vae_bundle / "golden/encode/outputs/posterior_mean.npy"
    np.save(path, np.load(path) + np.float32(offset))
    reseal(vae_bundle)
    if passes:
        difference = verify_bundle(vae_bundle).largest_differences["encode"]  # type: ignore[index]
        assert difference == pytest.approx(offset, rel=1e-2)
    else:
        assert "posterior_mean differs" in refused(vae_bundle)


def test_a_golden_file_lost_before_sealing(vae_bundle: Path) -> None:
    (vae_bundle / "golden/score/outputs/kl_per_dimension.npy").unlink()
    reseal(vae_bundle)
    assert "golden/score: cannot be read" in refused(vae_bundle)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"schemaVersion": 2}'])
def test_no_manifest_or_a_wrong_one(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(InvalidInput, match=r"bundle\.json"):
        verify_files(tmp_path)


def test_an_existing_bundle_needs_force(pristine: Path, vae_bundle: Path, make_spec: Callable[..., BundleSpec]) -> None:
    old = load_manifest(vae_bundle).digest
    with pytest.raises(InvalidInput, match="holds a bundle already"):
        build_bundle(make_spec(version="2"), base_dir=pristine, out_dir=vae_bundle)
    with pytest.raises(InvalidInput, match="does not exist"):
        build_bundle(
            make_spec(artifacts={"encoder": {"path": "gone.onnx"}}), base_dir=pristine, out_dir=vae_bundle, force=True
        )
    verify_bundle(vae_bundle, digest=old)
    new = build_bundle(make_spec(version="2"), base_dir=pristine, out_dir=vae_bundle, force=True)
    verify_bundle(vae_bundle, digest=new.digest)
    assert new.digest != old
    assert [path.name for path in vae_bundle.parent.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file"):
        with pytest.raises(InvalidInput, match="is no bundle"), staged(tmp_path / name, force=True):
            raise AssertionError("must not begin")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "years"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staged(tmp_path / "out", force=False) as staging:
        (staging / MANIFEST_FILE).write_text("{}")
    assert (tmp_path / "out" / MANIFEST_FILE).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_leaves_nothing_and_the_old_bundle(vae_bundle: Path) -> None:
    digest = load_manifest(vae_bundle).digest
    with pytest.raises(KeyboardInterrupt), staged(vae_bundle, force=True) as staging:
        (staging / "half").write_text("written")
        raise KeyboardInterrupt
    verify_bundle(vae_bundle, digest=digest)
    assert [path.name for path in vae_bundle.parent.iterdir() if path.name.startswith(".")] == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OperationFailed, match="cannot write"), staged(tmp_path / "file" / "out", force=False):
        raise AssertionError("must not begin")


def test_a_bundle_can_be_moved(built_vae: Path, tmp_path: Path) -> None:
    shutil.copytree(built_vae, tmp_path / "elsewhere")
    verify_bundle(tmp_path / "elsewhere", digest=load_manifest(built_vae).digest)
