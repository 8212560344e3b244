"""Rows of `bench.operator`, what they are to reach, and their table in docs/benchmarks.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import report
from rich import box
from rich.table import Table

RESULTS = report.RESULTS.with_name("operator.json")
_COLUMNS = ("models", "phase", "seconds", "calls per model", "writes", "CPU s", "memory MB")
_TARGET_MODELS = 1000


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One phase with so many LatentModels."""

    models: int
    phase: str
    seconds: float
    """Until converged; of ``idle``: how long was watched."""
    calls_per_model: float
    """Attempts of calls until all was quiet, without watches, discovery and the Lease's."""
    writes: int
    """Of these calls, those that write: objects, status, events."""
    written: Mapping[str, int]
    """The same by verb and kind."""
    cpu_seconds: float
    """Of the operator's process until all was quiet."""
    memory_mb_most: int
    """Largest resident memory of the operator's process."""


def results(rows: Sequence[OperatorRow]) -> dict[str, Any]:
    """The results as saved."""
    facts = report.machine_facts({})
    kept = ("cpu", "cores", "memory", "kernel", "python", "latentry")
    return {
        "machine": {name: facts[name] for name in kept},
        "targets": targets(rows),
        "rows": [asdict(row) for row in rows],
    }


def targets(rows: Sequence[OperatorRow]) -> list[dict[str, Any]]:
    """What the project set itself for 1,000 models; empty when these were not measured."""
    of = {row.phase: row for row in rows if row.models == _TARGET_MODELS}
    if not of:
        return []
    idle_share = round(of["idle"].cpu_seconds / of["idle"].seconds * 100, 2)
    limits = (
        ("seconds until 1,000 new models converged", of["created at once"].seconds, 90),
        ("needless writes after a restart", of["restarted"].writes, 0),
        ("idle, percent of a core", idle_share, 1),
        ("memory in MB", max(row.memory_mb_most for row in of.values()), 250),
    )
    return [{"what": what, "value": value, "target": limit, "reached": value <= limit} for what, value, limit in limits]


def line(target: Mapping[str, Any]) -> str:
    """One target as text."""
    verdict = "reached" if target["reached"] else "missed"
    return f"{target['what']}: {target['value']:g} (at most {target['target']:g}, {verdict})"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['models']:,}",
        row["phase"],
        f"{row['seconds']:.1f}",
        f"{row['calls_per_model']:.2f}",
        f"{row['writes']:,}",
        f"{row['cpu_seconds']:.2f}",
        str(row["memory_mb_most"]),
    )


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """All rows for a terminal."""
    result = Table(*_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in result.columns[2:]:
        column.justify = "right"
    for row in rows:
        result.add_row(*_cells(row), end_section=row["phase"] == "idle")
    return result


def render(results: Mapping[str, Any], document: Path = report.DOCUMENT) -> None:
    """Writes targets and rows into the document.

    Raises:
        InvalidInput: the document lacks its markers.
    """
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        f"{facts}.",
        "",
        *(f"- {line(target)}" for target in results["targets"]),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(['---:', '---'] + ['---:'] * 5)}|",
        *(f"| {' | '.join(_cells(row))} |" for row in results["rows"]),
    ]
    report.write_section(document, "operator figures", "\n".join(lines))
