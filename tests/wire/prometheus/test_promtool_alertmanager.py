"""The example for Alertmanager, as amtool and a real Alertmanager take it.

Covered: the configuration is valid, where alerts go, which alerts are silent beside which others, and that only those
of the same model are. Not covered: what a receiver gets.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from observability.alertmanager import Alertmanager
from observability.server import eventually

from latentry_operator.slo.names import AlertName

EXAMPLE = Path(__file__).parents[3] / "manifests" / "alertmanager" / "alertmanager.yaml"
MODEL = {"namespace": "vision", "model": "faces-vae", "version": "3"}

Labels = dict[str, str]


def amtool(*arguments: str) -> str:
    path = shutil.which("amtool")
    assert path, "amtool is missing; scripts/test-programs installs it"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def matchers(labels: Labels) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def test_the_example_is_valid() -> None:
    assert "SUCCESS" in amtool("check-config", str(EXAMPLE))


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "LatentryErrorBudgetBurn", "severity": "page"}, "pager"),
        ({"alertname": "LatentryErrorBudgetBurn", "severity": "ticket"}, "tickets"),
        ({"alertname": "LatentryGPUPoolExhausted", "severity": "ticket", "gpu_pool": "a10"}, "tickets"),
        ({"alertname": "NodeDown", "severity": "page"}, "nobody"),
    ],
)
def test_who_hears_of_what(labels: Labels, receiver: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={EXAMPLE}", *matchers(labels)).strip() == receiver


def test_the_example_names_alerts_that_exist() -> None:
    rules = yaml.safe_load(EXAMPLE.read_text())["inhibit_rules"]
    words = " ".join(matcher for rule in rules for side in ("source", "target") for matcher in rule[f"{side}_matchers"])
    named = {word for word in words.replace('"', " ").replace("|", " ").split() if word.startswith("Latentry")}
    assert named
    assert named <= {name.value for name in AlertName}


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    with Alertmanager(tmp_path, yaml.safe_load(EXAMPLE.read_text())) as running:
        yield running


def silent(running: Alertmanager, alerts: list[Labels]) -> set[tuple[str, str]]:
    """(alert, model) of those that are suppressed once Alertmanager knows all of ``alerts``."""
    for labels in alerts:
        amtool("alert", "add", f"--alertmanager.url=http://{running.address}", *matchers(labels))
    eventually(lambda: len(running.alerts()) == len(alerts), 10, "all alerts")
    return {
        (one["labels"]["alertname"], one["labels"]["model"])
        for one in running.alerts()
        if one["status"]["state"] == "suppressed"
    }


def test_while_the_budget_burns_drift_of_that_model_is_silent(alertmanager: Alertmanager) -> None:
    burn = {"alertname": "LatentryErrorBudgetBurn", "severity": "page", "slo": "availability", "window": "1h"}
    alerts = [
        MODEL | burn,
        MODEL | burn | {"severity": "ticket", "window": "1d"},
        MODEL | burn | {"severity": "ticket", "window": "1d", "slo": "latency-50ms"},
        MODEL | {"alertname": "LatentryDrift", "severity": "ticket"},
        MODEL | {"alertname": "LatentryModelUnhealthy", "severity": "ticket"},
        MODEL | {"alertname": "LatentryRolloutStuck", "severity": "ticket"},
        MODEL | {"alertname": "LatentryDrift", "severity": "ticket", "model": "other"},
    ]
    found = silent(alertmanager, alerts)
    assert found == {
        (name, "faces-vae") for name in ("LatentryErrorBudgetBurn", "LatentryDrift", "LatentryModelUnhealthy")
    }
    states = {(a["labels"].get("slo"), a["labels"]["severity"]): a["status"]["state"] for a in alertmanager.alerts()}
    assert states["availability", "page"] == "active"
    assert states["availability", "ticket"] == "suppressed"
    assert states["latency-50ms", "ticket"] == "active", "the page is of another objective"


def test_what_follows_from_no_replica_is_silent(alertmanager: Alertmanager) -> None:
    names = ("LatentryNoData", "LatentryTapDown", "LatentryGoldenProbeFailing", "LatentryDrift")
    alerts = [MODEL | {"alertname": "LatentryModelUnavailable", "severity": "page"}]
    alerts += [MODEL | {"alertname": name, "severity": "ticket"} for name in names]
    assert {name for name, _ in silent(alertmanager, alerts)} == set(names)
    assert len(alertmanager.alerts()) == len(alerts)


def test_a_slow_burn_hides_no_drift(alertmanager: Alertmanager) -> None:
    burn = {"alertname": "LatentryErrorBudgetBurn", "severity": "ticket", "slo": "quality", "window": "1d"}
    assert silent(alertmanager, [MODEL | burn, MODEL | {"alertname": "LatentryDrift", "severity": "ticket"}]) == set()
