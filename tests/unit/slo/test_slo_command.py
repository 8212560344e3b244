"""`latentry rules`: to stdout and into a folder, namespaces, the operator's rules, what is wrong."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from latentry_operator.cli import app
from latentry_operator.render.rule_files import rule_documents, write_rules
from latentry_operator.slo.types import RuleSettings
from latentry_serving.contract.errors import InvalidInput, OperationFailed

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"
DIGITS, ENCODER, POOLS = (SAMPLES / f"{name}.yaml" for name in ("digits-vae", "encoder", "gpu-pool"))


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["rules", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_stdout_is_one_document_for_prometheus() -> None:
    (document,) = yaml.safe_load_all(run(DIGITS, ENCODER, "--operator"))
    names = [group["name"] for group in document["groups"]]
    assert len(names) == len(set(names))
    assert {"latentry-digits-vae-slo", "latentry-search-minilm-slo", "latentry-operator"} <= set(names)


def test_a_folder_gets_a_file_for_each_model(tmp_path: Path) -> None:
    text = run(DIGITS, ENCODER, POOLS, "-o", tmp_path / "rules")
    files = {path.name for path in (tmp_path / "rules").iterdir()}
    assert files == {"digits-vae.yaml", "search-minilm.yaml"}
    assert text.count("wrote ") == 2


def test_a_namespace_is_for_models_that_name_none() -> None:
    text = run(DIGITS, ENCODER, "--namespace", "demo", "--runbook-url", "https://runbooks.example/")
    assert 'namespace="demo",model="digits-vae"' in text
    assert 'namespace="search",model="minilm"' in text
    assert "runbook_url: https://runbooks.example/LatentryDrift.md" in text


def test_files_without_a_model() -> None:
    with pytest.raises(InvalidInput, match="no LatentModel; add a file with one"):
        rule_documents([POOLS], RuleSettings())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OperationFailed, match=r"cannot be written to .*taken"):
        write_rules(rule_documents([DIGITS], RuleSettings()), tmp_path / "taken")
