"""How long after a fault somebody is told, in real time: the project's rules and routes as they are.

Run from the repository: ``python -m bench.time_to_page [--minutes N] [--render]``. Every fault of
tests/support/observed at once, each in a model of its own, with real Tritons, taps, Prometheus and Alertmanager.
Prometheus knows six hours of undisturbed traffic, so that a fault must first outweigh them, as it must in production.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from bench.report import DOCUMENT, load, machine_facts, save, write_section
from observability import Pace
from observed import MODELS, Stack

RESULTS = Path(__file__).parent / "results" / "time_to_page.json"
SCRAPE_SECONDS, EVALUATION_SECONDS = 30, 30
_BASELINE_SECONDS = 60
_POLL_SECONDS = 0.5


def measure(minutes: float) -> dict[str, Any]:
    """All faults, until every alert was told or the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), Pace(1), scrape_seconds=SCRAPE_SECONDS, past=int(time.time()))
        with stack:
            stack.watched()
            time.sleep(_BASELINE_SECONDS)
            before = [alert for one in stack.told() for alert in one.alerts]
            stack.hurt()
            began, worsened = time.monotonic(), False
            while time.monotonic() < began + 60 * minutes and not _complete(stack):
                time.sleep(_POLL_SECONDS)
                if not worsened and _told(stack, "dark") and _told(stack, "fails"):
                    stack.worsen()
                    stack.hurt_at["no replica"] = time.monotonic()
                    worsened = True
            return {
                "machine": machine_facts({}),
                "minutes": minutes,
                "scrape_seconds": SCRAPE_SECONDS,
                "evaluation_seconds": EVALUATION_SECONDS,
                "told_before_any_fault": [name for name, _ in before],
                "rows": list(_rows(stack)),
            }


def _told(stack: Stack, model: str) -> dict[tuple[str, str, str], float]:
    """(alert, severity, slo) -> when it was first told, monotonic seconds."""
    found: dict[tuple[str, str, str], float] = {}
    for notification in stack.told():
        for alert in notification.body["alerts"]:
            labels = alert["labels"]
            if labels.get("model") == model and alert["status"] == "firing":
                found.setdefault((labels["alertname"], labels["severity"], labels.get("slo", "")), notification.at)
    return found


def _complete(stack: Stack) -> bool:
    return all(_told(stack, model.name).keys() >= model.told for model in MODELS)


def _rows(stack: Stack) -> Iterator[dict[str, Any]]:
    for model in MODELS:
        told = _told(stack, model.name)
        for alert, severity, slo in sorted(model.told):
            at = told.get((alert, severity, slo))
            began = stack.hurt_at["no replica" if alert == "LatentryModelUnavailable" and at else model.name]
            yield {
                "fault": model.fault,
                "alert": alert,
                "slo": slo,
                "severity": severity,
                "seconds": None if at is None else round(at - began, 1),
                "scrape_seconds": SCRAPE_SECONDS,
                "evaluation_seconds": EVALUATION_SECONDS,
            }


def markdown(results: Mapping[str, Any]) -> str:
    """The table of docs/benchmarks.md, pages first, the soonest first."""
    machine = results["machine"]
    lines = [
        f"cpu {machine['cpu']}, cores {machine['cores']}; one run of {results['minutes']:g} minutes; scraped every"
        f" {results['scrape_seconds']} s, evaluated every {results['evaluation_seconds']} s.",
        "",
        "| fault | alert | severity | told after |",
        "|---|---|---|---:|",
    ]
    for row in sorted(results["rows"], key=lambda row: (row["severity"], row["seconds"] is None, row["seconds"])):
        alert = f"{row['alert']} {row['slo']}".strip()
        after = f"> {results['minutes']:g} min" if row["seconds"] is None else _minutes(row["seconds"])
        lines.append(f"| {row['fault']} | {alert} | {row['severity']} | {after} |")
    return "\n".join(lines)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def main(
    minutes: Annotated[float, typer.Option(help="Longest time to wait for the last alert.", min=1)] = 45,
    render: Annotated[bool, typer.Option(help="Write the results there are into docs/benchmarks.md.")] = False,
) -> None:
    """Measure, or show what was measured."""
    if not render:
        save(measure(minutes), RESULTS)
    write_section(DOCUMENT, "time to page figures", markdown(load(RESULTS, make="bench-time-to-page")))


if __name__ == "__main__":
    typer.run(main)
