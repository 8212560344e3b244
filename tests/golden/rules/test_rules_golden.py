"""Golden rule files: every sample as `latentry rules` writes it, and the operator's own rules.

promtool's view of the same files: tests/wire/prometheus.
"""

import difflib
from pathlib import Path

import pytest

from latentry_operator.render.rule_files import rule_documents, rules_text
from latentry_operator.slo.types import RuleSettings

ROOT = Path(__file__).parents[3]
FILES = Path(__file__).parent / "files"
SAMPLES = sorted(path for path in (ROOT / "manifests" / "samples").glob("*.yaml") if path.stem != "gpu-pool")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_rules_of_a_sample(sample: Path) -> None:
    check(f"{sample.stem}.yaml", rules_text(rule_documents([sample], RuleSettings())))


def test_the_operators_rules() -> None:
    documents = dict(rule_documents([SAMPLES[0]], RuleSettings(), operator=True))
    check("latentry-operator.yaml", rules_text({"": documents["latentry-operator.yaml"]}))


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FILES.iterdir()} == {path.stem for path in SAMPLES} | {"latentry-operator"}


def check(name: str, text: str) -> None:
    """Compares with the file beside the test: delete one and run, and it is written anew."""
    path = FILES / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{name} was missing and has been written: read it, then run again")
    kept = path.read_text(encoding="utf-8")
    difference = "\n".join(difflib.unified_diff(kept.splitlines(), text.splitlines(), "kept", "compiled", n=2))
    assert not difference, f"{name} differs; if that is meant, delete it and run again\n{difference}"
