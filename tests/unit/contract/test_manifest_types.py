"""bundle.json: canonical bytes, digest, strict parsing with every problem named."""

import json

import pytest

from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import BundleManifest, digest_of, parse_manifest

MINIMAL = {
    "schemaVersion": 1,
    "name": "e",
    "version": "1",
    "contract": {
        "family": "Encoder",
        "latentDimension": 4,
        "embeddingSpace": "e-1",
        "operations": {
            "encode": {
                "model": "e_encode",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
                "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [4]}],
            }
        },
    },
    "golden": {"samples": 2, "tolerances": {"encode": {"absolute": 1e-5, "relative": 1e-4}}},
    "files": [{"path": "repository/e_encode/1/model.onnx", "sha256": "sha256:" + "0" * 64, "bytes": 10}],
    "provenance": {"sources": {}},
}


def manifest() -> BundleManifest:
    return parse_manifest(json.dumps(MINIMAL).encode(), subject="bundle.json")


def test_the_bytes_are_canonical_whatever_the_input_layout() -> None:
    shuffled = json.dumps(dict(reversed(MINIMAL.items())), indent=7).encode()
    assert parse_manifest(shuffled, subject="b").to_bytes() == manifest().to_bytes()
    assert parse_manifest(manifest().to_bytes(), subject="b") == manifest()


def test_the_digest_covers_the_bytes() -> None:
    assert manifest().digest == digest_of(manifest().to_bytes())
    assert manifest().digest != manifest().model_copy(update={"version": "2"}).digest


def test_models_map_back_to_operations() -> None:
    assert {m: o.value for m, o in manifest().operations_by_model.items()} == {"e_encode": "encode"}
    assert manifest().total_bytes == 10


def test_every_problem_is_named() -> None:
    broken = json.loads(json.dumps(MINIMAL))
    broken["contract"]["latentDimension"] = 0
    broken["files"][0]["sha256"] = "md5:1"
    broken["surprise"] = True
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(json.dumps(broken).encode(), subject="bundle.json")
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"contract.latentDimension", "files.0.sha256", "surprise"}


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b'{"schemaVersion": 2}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_manifest(data, subject="bundle.json")
