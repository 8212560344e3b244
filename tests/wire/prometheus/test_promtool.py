"""The rules as Prometheus' own promtool takes and evaluates them.

Covered: the rules of every sample are valid; every scenario of tests/golden/rules/promtool holds for the rules compiled
from tests/golden/rules/models. tests/unit/slo checks that the scenarios have every alert fire, stay silent and end.
Not covered: a Prometheus that scrapes a tap.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from latentry_operator.render.rule_files import OPERATOR_FILE, rule_documents, write_rules
from latentry_operator.slo.types import RuleSettings

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "rules"
SAMPLES = sorted(path for path in (ROOT / "manifests" / "samples").glob("*.yaml") if path.stem != "gpu-pool")
SETTINGS = RuleSettings(runbook_url="https://runbooks.example")

Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    path = shutil.which("promtool")
    assert path, "promtool is missing; scripts/test-programs installs it"

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=280, check=False)

    return run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rules of every model of tests/golden/rules/models, under the model's file name."""
    folder = tmp_path_factory.mktemp("rules")
    for model in (GOLDEN / "models").glob("*.yaml"):
        documents = rule_documents([model], SETTINGS, operator=True)
        written = write_rules({model.name: documents["demo-m.yaml"], "operator.yaml": documents[OPERATOR_FILE]}, folder)
        assert all(path.exists() for path in written)
    return folder


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_rules_of_a_sample_are_valid(sample: Path, promtool: Promtool, tmp_path: Path) -> None:
    written = write_rules(rule_documents([sample], SETTINGS, operator=True), tmp_path)
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *written)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_rule_would_be_found(promtool: Promtool, tmp_path: Path) -> None:
    (path,) = write_rules(rule_documents([SAMPLES[0]], SETTINGS), tmp_path)
    path.write_text(path.read_text().replace("sum(rate(", "sum(rate(("))
    assert promtool("check", "rules", path).returncode != 0


@pytest.mark.parametrize("scenario", sorted((GOLDEN / "promtool").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_alerts_come_and_go(scenario: Path, promtool: Promtool, compiled: Path) -> None:
    copied = shutil.copy(scenario, compiled)
    done = promtool("test", "rules", copied)
    assert done.returncode == 0, done.stdout + done.stderr
