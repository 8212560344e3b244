"""``latentry bundle``: what people and machines read, and the exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from latentry_serving.bundle.cli import bundle_app
from latentry_serving.bundle.store import load_manifest
from latentry_serving.contract.errors import InvalidInput


def call(*arguments: object) -> Result:
    return CliRunner().invoke(bundle_app, [str(argument) for argument in arguments])


@pytest.fixture
def spec_file(folder: Path, document: Callable[..., dict[str, Any]]) -> Path:
    (folder / "spec.yaml").write_text(yaml.safe_dump(document()))
    return folder / "spec.yaml"


def test_build_inspect_verify(spec_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = call("build", spec_file, "-o", out)
    assert built.exit_code == 0, built.output
    digest = load_manifest(out).digest
    for result in (built, call("inspect", out)):
        assert digest in result.output
        assert "VAE, latent dimension 4" in result.output
        assert "in  image FP32 [batch, 1, 8, 8]" in result.output
        assert "out kl_per_dimension FP32 [batch, 4] nats" in result.output
    verified = call("verify", out, "--digest", digest)
    assert verified.exit_code == 0
    assert "score: golden outputs repeated, largest difference 0" in verified.output


def test_json_for_machines(spec_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = json.loads(call("build", spec_file, "-o", out, "--json").stdout)
    assert built == json.loads(call("inspect", out, "--json").stdout)
    assert built["digest"] == load_manifest(out).digest
    assert built["operations"]["encode"]["max_batch_size"] == 32
    verified = json.loads(call("verify", out, "--json").stdout)
    assert verified["largest_differences"]["encode"] == 0
    compared = json.loads(call("diff", out, out, "--json").stdout)
    assert compared["changes"] == []


def test_diff_ends_with_one_when_clients_break(
    spec_file: Path, tmp_path: Path, document: Callable[..., dict[str, Any]]
) -> None:
    call("build", spec_file, "-o", tmp_path / "a")
    spec_file.write_text(
        yaml.safe_dump(document(reconstructionError="SumSquared", version="2", embeddingSpace="digits-1"))
    )
    call("build", spec_file, "-o", tmp_path / "b")
    result = call("diff", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 1
    assert "breaking reconstructionError: MeanSquared -> SumSquared" in result.output
    assert "embeddings of 128 shared inputs: cosine at least 1.000000" in result.output
    same = call("diff", tmp_path / "a", tmp_path / "a")
    assert same.exit_code == 0
    assert "identical" in same.output


def test_errors_reach_the_root_command_as_they_are(spec_file: Path, tmp_path: Path) -> None:
    (spec_file.parent / "encoder.onnx").unlink()
    result = call("build", spec_file, "-o", tmp_path / "out")
    assert isinstance(result.exception, InvalidInput)
    assert isinstance(call("verify", tmp_path / "out").exception, InvalidInput)


def test_force_replaces(spec_file: Path, tmp_path: Path) -> None:
    call("build", spec_file, "-o", tmp_path / "out")
    assert isinstance(call("build", spec_file, "-o", tmp_path / "out").exception, InvalidInput)
    assert call("build", spec_file, "-o", tmp_path / "out", "--force").exit_code == 0
