"""From rows to the printed table, the results file and the section of docs/benchmarks.md that is made from it."""

import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latentry_serving.contract.errors import InvalidInput, LatentryError

Row = Mapping[str, Any]

_ROOT = Path(__file__).parents[1]
RESULTS = _ROOT / "bench" / "results" / "serving.json"
DOCUMENT = _ROOT / "docs" / "benchmarks.md"
_COLUMNS = ("calls in flight", "server", "requests/s", "p50 ms", "p99 ms", "share of direct")


def machine_facts(venvs: Mapping[str, Path]) -> dict[str, str]:
    """What the figures depend on. Names no host and no path."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = {name: metadata.version(name) for name in ("onnxruntime", "nvidia-pytriton", "latentry")}
    for name, venv in venvs.items():
        (found,) = metadata.distributions(name=name, path=[str(path) for path in venv.glob("lib/*/site-packages")])
        versions[name] = found.version
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        **versions,
    }


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Ends the program with a failure's own words and exit code."""
    try:
        yield
    except LatentryError as error:
        Console(stderr=True, highlight=False).print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


def spread(values: Sequence[float]) -> str:
    """Median [least, most]."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _case(row: Row) -> str:
    return f"{row['protocol']}, {row['connections']}"


def _figures(row: Row) -> tuple[str, ...]:
    share = f"{row['ratio_to_direct']:.2f} [{row['ratio_to_direct_least']:.2f}, {row['ratio_to_direct_most']:.2f}]"
    return (
        row["server"],
        f"{row['requests_per_second']:,.0f}",
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        "1" if row["ratio_to_direct_least"] == row["ratio_to_direct_most"] == 1 else share,
    )


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal of 80 columns, one section for each protocol and number of calls in flight."""
    result = Table(*_COLUMNS, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in result.columns[2:]:
        column.justify = "right"
    for case, members in itertools.groupby(rows, _case):
        for index, row in enumerate(members):
            result.add_row("" if index else case, *map(escape, _figures(row)))
        result.add_section()
    return result


def save(results: Mapping[str, Any], path: Path = RESULTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def load(path: Path = RESULTS, *, make: str = "bench") -> dict[str, Any]:
    """
    Raises:
        InvalidInput: there are no results.
    """
    if not path.is_file():
        raise InvalidInput.one("results", path=path.name, problem="does not exist", remedy=f"run `make {make}` first")
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def render(results: Mapping[str, Any], document: Path = DOCUMENT) -> None:
    """Writes the figures into the document."""
    write_section(document, "figures", _markdown(results))


def write_section(document: Path, name: str, text: str) -> None:
    """Writes text between a document's two markers of that name.

    Raises:
        InvalidInput: the markers are missing.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = document.read_text()
    if whole.count(begin) != 1 or whole.count(end) != 1:
        remedy = f"put one line `{begin}` and one line `{end}` where the figures belong"
        raise InvalidInput.one(document.name, path=document.name, problem="lacks its markers", remedy=remedy)
    head, rest = whole.split(begin)
    document.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def _markdown(results: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        f"Encoder {results['network']}, batching delay {results['max_queue_delay']}, {results['rounds']} runs of "
        f"{results['seconds']} s per server and case; share of direct: median [least, most]. {facts}.",
        "",
        *(f"- {name}: {value}" for name, value in results["summary"].items()),
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'|'.join(['---'] * 2 + ['---:'] * 4)}|",
        *(f"| {' | '.join((_case(row), *_figures(row)))} |" for row in results["rows"]),
    ]
    return "\n".join(lines)
