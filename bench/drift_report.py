"""Results files, printed lines and the sections of docs/benchmarks.md of the drift benchmarks."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import report

from latentry_serving import drift

FALSE_ALARMS = report.RESULTS.with_name("drift_false_alarms.json")
COST = report.RESULTS.with_name("drift_cost.json")
DELAY = report.RESULTS.with_name("drift_delay.json")
DELAY_ALL_METHODS = report.RESULTS.with_name("drift_delay_all_methods.json")

Row = Mapping[str, Any]


def code_digest(*others: Path) -> str:
    """Of the sources of the detectors and of ``others``: rows of one results file may come from several runs."""
    files = [*sorted(Path(drift.__file__).parent.glob("*.py")), *others]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def merge(path: Path, case: str, rows: Sequence[Row]) -> None:
    """Puts a case's rows in place of its former ones, at once: a stop later loses nothing."""
    before = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    kept = [row for row in before["rows"] if row["case"] != case]
    results = {"machine": report.machine_facts({}), "rows": [*kept, *rows]}
    report.save(results, path)


def verdict(rows: Sequence[Row]) -> str:
    """One case as a line: the whole model, and which statistics miss by themselves."""
    whole, *single = rows
    missed = [f"{r['statistic']} by {r['rule']} {_interval(r)}" for r in single if _off(r)]
    return (
        f"{whole['case']}: whole model {whole['stated']:g} stated, {_interval(whole)}: {_word(whole)}; "
        f"references {whole['lowest_reference']:g} to {whole['highest_reference']:g}; "
        f"{len(missed)} of {len(single)} single rates are off{': ' if missed else ''}{'; '.join(missed)}"
    )


def _word(row: Row) -> str:
    few = row["windows"] < 10_000 and not _off(row)
    return "reached" if row["reached"] else "too few windows to tell" if few else "missed"


def _off(row: Row) -> bool:
    """Whether the rate itself, not just its interval, is out of reach."""
    return bool(row["measured"] > 2 * row["stated"] or (not row["reached"] and row["measured"] < row["stated"] / 5))


def _interval(row: Row) -> str:
    return f"{row['measured']:.3g} [{row['ci_low']:.3g}, {row['ci_high']:.3g}]"


def render_false_alarms(results: Mapping[str, Any], document: Path = report.DOCUMENT) -> None:
    """Writes the whole-model rows and the single statistics' ranges into the document.

    Raises:
        InvalidInput: the document lacks its markers.
    """
    rows: list[Row] = results["rows"]
    whole = [row for row in rows if row["statistic"] == "whole model"]
    lines = [
        f"{_machine(results)}",
        "",
        "| case | stated | measured | 95 % interval | windows | references | whole model | single rates within |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for row in whole:
        single = [r for r in rows if r["case"] == row["case"] and r is not row]
        lines.append(
            f"| {row['case']} | {row['stated']:g} | {row['measured']:g} | {row['ci_low']:g} to {row['ci_high']:g} | "
            f"{row['windows']:,} | {row['lowest_reference']:g} to {row['highest_reference']:g} | "
            f"{_word(row)} | {sum(not _off(r) for r in single)} of {len(single)} |"
        )
    missed = [r for r in rows if r["statistic"] != "whole model" and _off(r)]
    if missed:
        lines += ["", "Single statistics whose rate is more than twice or less than a fifth of the stated .01:", ""]
        lines += [f"- {r['case']}: {r['statistic']}, {r['rule']}: {_interval(r)}" for r in missed]
    report.write_section(document, "drift false alarm figures", "\n".join(lines))


def _machine(results: Mapping[str, Any]) -> str:
    """What the figures come from; ``note`` is put in by hand where a file is not of one whole run, and goes with it."""
    facts = results["machine"]
    found = ", ".join(f"{name} {facts[name]}" for name in ("cpu", "cores", "python"))
    return f"{found}. {results['note']}" if "note" in results else found


def cost_line(row: Row) -> str:
    """One row of the cost as text."""
    d = row["dimensions"]
    if row["what"] == "process":
        return (
            f"{d}-d: {row['resident_mb']:.0f} MB resident, profile loaded in {row['load_s'] * 1e3:.0f} ms "
            f"({row['load_cpu_s'] * 1e3:.0f} ms of CPU), fitted in {row['fit_s']:.1f} s of CPU"
        )
    how = "windows" if row["batch"] is None else f"batches of {row['batch']}"
    spread = f"[{row['us_per_vector_least']:.1f}, {row['us_per_vector_most']:.1f}]"
    return f"{d}-d, {row['what']}, {how}: {row['us_per_vector']:.1f} us per vector {spread}"


def render_cost(results: Mapping[str, Any], document: Path = report.DOCUMENT) -> None:
    """Writes the costs into the document: methods down, dimensions across.

    Raises:
        InvalidInput: the document lacks its markers.
    """
    rows: list[Row] = results["rows"]
    dimensions = sorted({row["dimensions"] for row in rows})
    timed = {(_label(r), r["dimensions"]): r for r in rows if r["what"] != "process"}
    lines = [_machine(results), "", f"| us of CPU per vector | {' | '.join(f'{d}-d' for d in dimensions)} |"]
    lines.append(f"|---|{'|'.join(['---:'] * len(dimensions))}|")
    for label in dict.fromkeys(label for label, _ in timed):
        cells = [f"{timed[label, d]['us_per_vector']:,.1f}" if (label, d) in timed else "" for d in dimensions]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", *(f"- {cost_line(row)}" for row in rows if row["what"] == "process")]
    report.write_section(document, "drift cost figures", "\n".join(lines))


def _label(row: Row) -> str:
    return row["what"] if row["batch"] is None else f"{row['what']}, batches of {row['batch']}"


def delay_line(rows: Sequence[Row]) -> str:
    """One kind and size as text: ours first, then the others by their delay."""
    ours, *others = rows
    rest = sorted(others, key=lambda row: row["median_windows"] or float("inf"))
    verdict = "ahead or equal" if ours["reached"] else "BEHIND"
    return f"{ours['case']}: {_delay(ours)} ({verdict}); " + "; ".join(f"{r['method']} {_delay(r)}" for r in rest)


def _delay(row: Row) -> str:
    if row["median_windows"] is None:
        return f"> {row['most']} ({row['caught']} of {row['runs']})"
    return f"{row['median_windows']:g}"


def render_delay(
    results: Mapping[str, Any], section: str = "drift delay figures", document: Path = report.DOCUMENT
) -> None:
    """Writes the delays into a section of the document: kinds and sizes down, methods across.

    Raises:
        InvalidInput: the document lacks its markers.
    """
    rows: list[Row] = results["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    some = rows[0]
    lines = [
        f"{_machine(results)}",
        "",
        f"{some['dimensions']} dimensions, windows of {some['window']}, reference of "
        f"{some['reference']:,}; median of {some['runs']} runs, given up after "
        f"{some['most']} windows (caught until then).",
        "",
        f"| drift | size | {' | '.join(methods)} |",
        f"|---|---:|{'|'.join(['---:'] * len(methods))}|",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        found = {row["method"]: row for row in rows if row["case"] == case}
        one = next(iter(found.values()))
        cells = [_delay(found[m]) if m in found else "" for m in methods]
        lines.append(f"| {one['kind']} | {one['size']:g} | {' | '.join(cells)} |")
    report.write_section(document, section, "\n".join(lines))
