"""A real Prometheus that scrapes real taps in front of real Tritons, its alerts in a real Alertmanager, and a webhook.

Covered: an undisturbed stack is silent; each fault makes exactly the expected alerts fire, which are listed in
tests/support/observed/models.py, and those reach the right receiver, in one group for a model, unless another says it
already; what is mended is told as resolved; every query of every dashboard and every rule has data; texts are complete.
Rules, scrapes and routes run 30 times faster than real time: a minute is two seconds, and nothing else changes. Windows
begin to fill with the stack. Not covered: how long a page takes in real time, see bench/time_to_page.py.

The tests are one story, in this order.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import dashboards
import pytest
from observability import Notification
from observability.server import eventually
from observed import MODELS, NAMESPACE, Model, Stack
from observed.elsewhere import NOT_HERE

from latentry_operator.slo.names import AlertName

pytestmark = [pytest.mark.triton, pytest.mark.timeout(900)]

WITHIN_SECONDS = 300.0
"""For what comes in the end; with nothing else on the machine it takes a minute."""
NAMES = [model.name for model in MODELS]
BOARDS = sorted(dashboards.FOLDER.glob("*.json"))

Alert = tuple[str, str, str]
"""(alert, severity, slo or nothing)."""


def alerts_of(notification: Notification, status: str) -> Iterator[tuple[str, Alert]]:
    """(model, alert) of those in a notification that have a status."""
    for alert in notification.body["alerts"]:
        labels = alert["labels"]
        if alert["status"] == status:
            yield labels.get("model", ""), (labels["alertname"], labels["severity"], labels.get("slo", ""))


def told(stack: Stack, model: str, status: str = "firing") -> set[Alert]:
    """What was told about a model."""
    return {alert for one in stack.told() for name, alert in alerts_of(one, status) if name == model}


def expected_of(name: str) -> Model:
    return next(model for model in MODELS if model.name == name)


@pytest.fixture(scope="module")
def hurt(observed: Stack) -> Stack:
    """The stack once every fault is there and everybody was told what there is to tell."""
    assert not observed.hurt_at, "the test of the undisturbed stack comes first"
    observed.hurt()
    eventually(
        lambda: told(observed, "fails") >= expected_of("fails").told and told(observed, "dark"),
        WITHIN_SECONDS,
        "the errors and the missing tap are told",
    )
    observed.worsen()

    def complete() -> bool:
        fired = observed.firing()
        return all(told(observed, m.name) >= m.told and fired.get(m.name, set()) >= m.told | m.silent for m in MODELS)

    eventually(complete, WITHIN_SECONDS, "every expected alert has fired and was told")
    return observed


def test_undisturbed_nothing_fires(observed: Stack) -> None:
    observed.watched()
    eventually(lambda: not observed.prometheus.alerts(), WITHIN_SECONDS, "alerts of the start are over")
    since = time.monotonic()
    eventually(lambda: time.monotonic() > since + 8, 20, "four minutes of the rules' time")
    assert observed.firing(since) == {}
    assert observed.prometheus.unhealthy() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_makes_the_expected_alerts_fire(name: str, hurt: Stack) -> None:
    model, fired = expected_of(name), hurt.firing().get(name, set())
    assert fired >= model.told | model.silent
    assert fired <= model.told | model.silent | model.may | model.also


@pytest.mark.parametrize("name", NAMES)
def test_who_must_hear_of_it_does_and_nobody_else(name: str, hurt: Stack) -> None:
    model, heard = expected_of(name), told(hurt, name)
    assert heard >= model.told
    held_back = model.silent | model.may
    if not hurt.interrupted(name):
        assert not heard & held_back
    assert heard <= model.told | model.also | held_back


def test_pages_and_tickets_go_their_ways_grouped_by_model(hurt: Stack) -> None:
    for notification in hurt.told():
        severities = {alert["labels"]["severity"] for alert in notification.body["alerts"]}
        assert {"/page": {"page"}, "/ticket": {"ticket"}}[notification.path] == severities
        group = notification.body["groupLabels"]
        if group.get("gpu_pool"):
            continue
        assert group["namespace"] == NAMESPACE
        assert {alert["labels"]["model"] for alert in notification.body["alerts"]} == {group["model"]}
    together = [{alert for _, alert in alerts_of(one, "firing")} for one in hurt.told()]
    assert expected_of("gone").told in together, "errors, latency and probes of one fault are one message"


def test_what_another_alert_says_already_is_suppressed(hurt: Stack) -> None:
    def suppressed() -> set[tuple[str, str]]:
        return {
            (alert["labels"].get("model", ""), alert["labels"]["alertname"])
            for alert in hurt.alertmanager.alerts()
            if alert["status"]["state"] == "suppressed" and alert["status"]["inhibitedBy"]
        }

    wanted = {(model.name, alert) for model in MODELS for alert, _, _ in model.silent}
    eventually(lambda: suppressed() >= wanted, WITHIN_SECONDS, f"{wanted} are suppressed")


def test_texts_are_complete(hurt: Stack) -> None:
    """What somebody reads at night: numbers in place, no template, nothing that is not known."""
    for notification in hurt.told():
        for alert in notification.body["alerts"]:
            texts = alert["annotations"]
            whose = f"{NAMESPACE}/{alert['labels']['model']}: " if "model" in alert["labels"] else "GPU pool"
            assert texts["summary"].startswith(whose)
            assert re.search(r"\d", texts["description"]) or alert["labels"]["alertname"] == AlertName.NO_DATA
            for text in texts.values():
                assert not re.search(r"\{\{|%!|<no value>|error calling|not known|\bNaN\b(?! or)", text), text
            assert texts["runbook_url"].endswith(f"/{alert['labels']['alertname']}.md")


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_every_query_of_a_dashboard_has_data(board: Any, hurt: Stack) -> None:
    queries = dashboards.every_query(json.loads(board.read_text()))
    assert len(queries) > 10

    def empty() -> list[str]:
        return [
            f"{title}: {expr}" for title, expr in queries if not hurt.prometheus.query(dashboards.substituted(expr))
        ]

    eventually(lambda: not empty(), WITHIN_SECONDS, "all panels have data")
    assert empty() == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_no_panel_lives_on_what_is_not_here(board: Any) -> None:
    """Queries that only a fed sample answers are those of the list, and the list has no other."""
    queries = [expr for _, expr in dashboards.every_query(json.loads(board.read_text()))]
    foreign = {name for expr in queries for name in re.findall(r"\b(?:nv_gpu|container|kube)_\w+(?=\{)", expr)}
    assert foreign <= NOT_HERE.keys()


def test_every_recording_rule_has_data(hurt: Stack) -> None:
    groups = hurt.prometheus.get("/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule.get("lastError")] == []
    recorded = [rule for rule in rules if rule["type"] == "recording"]
    assert len(recorded) > 100

    def missing() -> list[str]:
        names = {rule["name"] for rule in recorded}
        have = {(name, one.labels["slo"]) for name in names for one in hurt.prometheus.query(f'{{__name__="{name}"}}')}
        return [
            f"{rule['name']}: {rule['labels']}"
            for rule in recorded
            if (rule["name"], rule["labels"]["slo"]) not in have
        ]

    with contextlib.suppress(AssertionError):  # the next line says which
        eventually(lambda: not missing(), WITHIN_SECONDS, "every rule has recorded lately")
    assert missing() == []


def test_what_is_mended_is_told_as_over(hurt: Stack) -> None:
    hurt.mend()
    wanted = {name: expected_of(name).told for name in ("slow", "nan")}
    eventually(
        lambda: all(told(hurt, name, "resolved") >= alerts for name, alerts in wanted.items()),
        WITHIN_SECONDS,
        "the ends are told",
    )


def test_the_pool_and_the_operator(hurt: Stack) -> None:
    """Alerts of the cluster, not of a model; with them every alert has fired, so that every rule's query had data."""
    pool = (AlertName.GPU_POOL_EXHAUSTED.value, "ticket", "")
    eventually(lambda: pool in told(hurt, ""), WITHIN_SECONDS, "the used-up pool is told")
    hurt.cluster.leads = False
    down = (AlertName.OPERATOR_DOWN.value, "ticket", "")
    eventually(lambda: down in told(hurt, ""), WITHIN_SECONDS, "the missing operator is told")
    assert {alert for alerts in hurt.firing().values() for alert, _, _ in alerts} == {name.value for name in AlertName}
