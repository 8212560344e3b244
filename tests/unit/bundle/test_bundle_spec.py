"""BundleSpec files: defaults, and every problem at once with field path and remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentry_serving.bundle.spec import ArtifactFormat, BundleSpec, load_spec, parse_spec
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import NormalPrior, ReconstructionError
from latentry_serving.contract.operations import Operation

Document = Callable[..., dict[str, Any]]

BOTH = {"encoder": {"path": "a.onnx"}, "decoder": {"path": "b.onnx"}}
ANY = {"absolute": 1, "relative": 1}


def problems(raw: Any) -> dict[str, str]:
    """Field path -> 'problem; remedy'."""
    with pytest.raises(InvalidInput) as caught:
        parse_spec(raw, subject="spec.yaml")
    assert caught.value.exit_code == 2
    return {problem.path: f"{problem.problem}; {problem.remedy}" for problem in caught.value.problems}


def test_defaults(document: Document) -> None:
    spec = parse_spec(document())
    assert spec.space == "digits-1"
    assert spec.effective_prior == NormalPrior(mean=0, standard_deviation=1)
    assert spec.effective_reconstruction_error(decoder=True) is ReconstructionError.MEAN_SQUARED
    assert (spec.runtime.max_batch_size, str(spec.runtime.max_queue_delay), spec.runtime.instances) == (32, "0s", 1)
    assert (spec.golden.samples, spec.golden.fewest) == (None, 8)
    assert spec.artifacts.encoder is not None
    assert spec.artifacts.encoder.resolved_format is ArtifactFormat.ONNX


def test_the_specs_own_serialisation_reads_back(document: Document) -> None:
    spec = parse_spec(
        document(
            prior={"mean": 0.5, "standardDeviation": 2.0},
            golden={"tolerances": {"score": {"absolute": 0, "relative": 1}}},
        )
    )
    assert BundleSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        {
            "apiVersion": "latentry.dev/v2",
            "name": "Digits VAE",
            "version": 3,
            "family": "GAN",
            "latentDimensions": 4,
            "runtime": {"maxQueueDelay": 500, "instances": 0},
            "artifacts": {"encoder": {"path": "a.onnx", "format": "pickle"}},
        }
    )
    assert set(found) == {
        "kind", "apiVersion", "name", "version", "family", "latentDimension", "latentDimensions",
        "runtime.maxQueueDelay", "runtime.instances", "artifacts.encoder.format",
    }  # fmt: skip
    assert "'GAN' is not allowed; write 'Encoder', 'Autoencoder' or 'VAE'" in found["family"]
    assert "did you mean latentDimension?" in found["latentDimensions"]
    assert 'quote it: "3"' in found["version"]
    assert "500 has no unit; write 500ms or 500s" in found["runtime.maxQueueDelay"]
    assert "write kind: BundleSpec" in found["kind"]


@pytest.mark.parametrize(
    ("family", "changes", "path", "said"),
    [
        ("VAE", {"reference": None}, "reference", "reference.npy"),
        ("VAE", {"normalisation": "L2"}, "normalisation", "family Encoder"),
        ("Autoencoder", {"prior": {}}, "prior", "belongs to family VAE"),
        ("Encoder", {"reconstructionError": "SumSquared"}, "reconstructionError", "no decoder"),
        ("Encoder", {"artifacts": BOTH}, "artifacts.decoder", "has no decoder"),
        ("VAE", {"artifacts": {"encoder": {"path": "m.bin"}}}, "artifacts.encoder.path", "pickle is never accepted"),
        ("VAE", {"artifacts": {"decoder": {"path": "a.onnx"}}}, "artifacts.encoder", "is missing"),
        ("Autoencoder", {"golden": {"tolerances": {"sample": ANY}}}, "golden.tolerances.sample", "no such operation"),
        ("VAE", {"inputs": [{"name": n, "datatype": "FP32", "shape": [1]} for n in "ab"]}, "inputs", "takes one"),
    ],
)  # fmt: skip
def test_settings_the_family_does_not_have(
    document: Document, family: str, changes: dict[str, Any], path: str, said: str
) -> None:
    assert said in problems(document(family, **changes))[path]


def test_operations_follow_from_family_and_graphs(document: Document) -> None:
    assert parse_spec(document("VAE")).operations(decoder=True) == tuple(Operation)
    assert Operation.SAMPLE not in parse_spec(document("Autoencoder")).operations(decoder=True)
    assert parse_spec(document("VAE")).operations(decoder=False) == (Operation.ENCODE,)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("a: [", "is not YAML"), ("- a\n", "not a mapping"), ("", "NoneType")],
)
def test_files_that_are_no_spec(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=said) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)


def test_a_file_reads_as_its_document(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document()))
    assert load_spec(path) == parse_spec(document())
