"""What the rules read exists: every metric is of the contract or the operator, every reason one of a status."""

import re
from pathlib import Path

import pytest
import yaml

from latentry_operator.plan.rollout.reasons import RolloutReason
from latentry_operator.slo import names
from latentry_operator.slo.model_alerts import NEEDS_SOMEBODY
from latentry_operator.status.reasons import ProgressingReason
from latentry_serving.contract import metrics

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "tests" / "golden" / "rules" / "files").glob("*.yaml"))
OF_TAPS = {value for name, value in vars(metrics).items() if name.isupper() and str(value).startswith("latentry_")}
OF_OPERATOR = {value for name, value in vars(names).items() if name.isupper() and str(value).startswith("latentry_op")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_metric_exists(path: Path) -> None:
    groups = yaml.safe_load(path.read_text())["groups"]
    text = " ".join(rule["expr"] + str(rule.get("annotations", "")) for group in groups for rule in group["rules"])
    read = {re.sub("_(bucket|count)$", "", name) for name in re.findall(r"latentry_[a-z_]+(?=[{ ])", text)}
    assert read
    assert read <= OF_TAPS | OF_OPERATOR


def test_the_operators_metrics_are_those_it_exports() -> None:
    source = "".join(path.read_text() for path in (ROOT / "operator" / "latentry_operator" / "runtime").glob("*.py"))
    assert {name for name in OF_OPERATOR if name.removeprefix("latentry_operator_") not in source} == set()


def test_every_reason_that_needs_somebody_exists() -> None:
    assert set(NEEDS_SOMEBODY) <= {*ProgressingReason, *RolloutReason}
    assert ProgressingReason.SCALING == "Scaling"
