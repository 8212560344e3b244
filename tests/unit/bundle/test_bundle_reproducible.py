"""The same inputs give the same bytes: in another folder and process, with other hash seeds and thread counts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.normalise import opset_of, write_graph
from latentry_serving.bundle.spec import BundleSpec
from latentry_serving.bundle.store import list_files
from latentry_serving.bundle.verify import verify_bundle
from latentry_serving.contract.manifest import MANIFEST_FILE

Document = Callable[..., dict[str, Any]]
MakeSpec = Callable[..., BundleSpec]

_BUILD = """
import sys
from pathlib import Path
from latentry_serving.bundle.build import build_bundle
from latentry_serving.bundle.spec import load_spec
spec, out = map(Path, sys.argv[1:])
print(build_bundle(load_spec(spec), base_dir=spec.parent, out_dir=out).digest)
"""


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "pt"])
def test_two_processes_in_two_folders_seal_one_digest(
    folder: Path, tmp_path: Path, document: Document, suffix: str
) -> None:
    digests, contents = [], []
    for i, name in enumerate(("first", "second/deeper")):
        place = tmp_path / name
        place.mkdir(parents=True)
        for file in folder.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        (place / "spec.yaml").write_text(yaml.safe_dump(document(suffix=suffix)))
        environment = os.environ | {"PYTHONHASHSEED": str(i + 1), "OMP_NUM_THREADS": str(i + 1), "TZ": f"UTC+{i}"}
        command = [sys.executable, "-c", _BUILD, str(place / "spec.yaml"), str(place / "out")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=place)
        digests.append(done.stdout.split()[-1])
        out = place / "out"
        contents.append({path: (out / path).read_bytes() for path in [*list_files(out), MANIFEST_FILE]})
    assert digests[0] == digests[1]
    assert contents[0] == contents[1]
    verify_bundle(tmp_path / "first" / "out", digest=digests[0])
    everything = b"".join(contents[0].values())
    for trace in (str(tmp_path), "conftest", "site-packages", os.environ.get("HOSTNAME", "no-such-host")):
        assert trace.encode() not in everything, trace


def test_another_weight_is_another_digest(folder: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path) -> None:
    model = onnx.load(folder / "encoder.onnx")
    weight = next(w for w in model.graph.initializer if w.name.endswith("weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1e-3
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "encoder.onnx")
    manifest = build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / "out")
    assert manifest.to_bytes() != (built_vae / MANIFEST_FILE).read_bytes()


def test_notes_in_the_artifact_do_not_reach_the_graphs(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path
) -> None:
    model = onnx.load(folder / "encoder.onnx")
    model.doc_string, model.producer_version = "from /home/someone", "9"
    model.metadata_props.add(key="path", value="/home/someone")
    for node in model.graph.node:
        node.doc_string = "/home/someone/model.py:12"
        node.metadata_props.add(key="trace", value="/home/someone/model.py:12")
    onnx.save(model, folder / "encoder.onnx")
    build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / "out")
    graph = "repository/digits_score/1/model.onnx"
    assert (tmp_path / "out" / graph).read_bytes() == (built_vae / graph).read_bytes()


def test_graphs_of_different_opsets_are_joined(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, models: Any, export_onnx: Callable[..., Any], digits: Any
) -> None:
    import torch

    export_onnx(models.vae_encoder, torch.from_numpy(digits[:3]), folder / "encoder.onnx", opset_version=18)
    assert opset_of(onnx.load(folder / "encoder.onnx")) == 18
    assert opset_of(onnx.load(folder / "decoder.onnx")) > 18
    manifest = build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / "out")
    verify_bundle(tmp_path / "out", digest=manifest.digest)


def test_external_data_is_read_and_written(
    folder: Path, tmp_path: Path, make_spec: MakeSpec, built_vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(folder / "encoder.onnx")
    onnx.save_model(
        model, folder / "encoder.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    manifest = build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / "out")
    assert set(manifest.provenance.sources) >= {"encoder", "encoder/weights.bin"}
    graph = "repository/digits_encode/1/model.onnx"
    assert (tmp_path / "out" / graph).read_bytes() == (built_vae / graph).read_bytes()

    def write_external(model: onnx.ModelProto, path: Path) -> None:
        write_graph(model, path, external_data_bytes=0)

    monkeypatch.setattr("latentry_serving.bundle.build.write_graph", write_external)
    digests = {
        build_bundle(make_spec(), base_dir=folder, out_dir=tmp_path / name).digest for name in ("external", "again")
    }
    assert len(digests) == 1
    assert (tmp_path / "external" / "repository/digits_encode/1/model.onnx.data").stat().st_size > 0
    verify_bundle(tmp_path / "external", digest=digests.pop())


def test_onnx_needs_no_torch(folder: Path, tmp_path: Path, document: Document) -> None:
    """With torch blocked, ONNX builds and a program says what to install."""
    blocked = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
    for suffix in ("onnx", "pt2"):
        (folder / "spec.yaml").write_text(yaml.safe_dump(document(suffix=suffix)))
        command = [sys.executable, "-c", blocked + _BUILD, str(folder / "spec.yaml"), str(tmp_path / suffix)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if suffix == "onnx":
            assert done.returncode == 0, done.stderr
            assert "sha256:" in done.stdout
        else:
            assert "is not installed; install latentry[torch], or give ONNX" in done.stderr
