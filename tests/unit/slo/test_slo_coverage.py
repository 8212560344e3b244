"""Every alert has a runbook and scenarios in which it fires, stays silent and ends; and the other way round."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from latentry_operator.slo.names import AlertName

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ("What it means", "How to see it", "What to do first", "How to undo")
ALERTS = [name.value for name in AlertName]


def checks() -> list[tuple[str, str, float, bool]]:
    """(alert, scenario, minutes, whether it is on) of every check in the scenarios."""
    found = []
    for path in sorted((ROOT / "tests" / "golden" / "rules" / "promtool").glob("*.yaml")):
        for test in yaml.safe_load(path.read_text())["tests"]:
            found += [(one["alertname"], test["name"], *moment(one)) for one in test.get("alert_rule_test", ())]
    return found


def moment(check: dict[str, Any]) -> tuple[float, bool]:
    parts = re.findall(r"(\d+)([hm])", check["eval_time"])
    return sum(int(number) * (60 if unit == "h" else 1) for number, unit in parts), bool(check["exp_alerts"])


@pytest.mark.parametrize("alert", ALERTS)
def test_it_fires_stays_silent_and_ends(alert: str) -> None:
    mine = [(scenario, at, on) for name, scenario, at, on in checks() if name == alert]
    fires = {scenario for scenario, _, on in mine if on}
    assert fires, "never fires"
    assert {scenario for scenario, _, _ in mine} - fires, "no scenario without it"
    on_at = [(scenario, at) for scenario, at, on in mine if on]
    assert any((s, at) for s, at, on in mine if not on for scenario, was in on_at if scenario == s and was < at), (
        "no end"
    )


def test_scenarios_are_of_alerts_that_exist() -> None:
    assert {name for name, *_ in checks()} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_it_has_a_runbook_with_every_section(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)


def test_no_runbook_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("Latentry*.md")} == set(ALERTS)
