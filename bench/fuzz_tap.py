"""``make fuzz``: coverage-guided fuzzing of both observers with atheris, for as long as wanted.

Run from the repository: ``python -m bench.fuzz_tap [--minutes N] [--findings FOLDER]``. Both observers run at once,
each from the conversations in `bench.fuzz_seeds`. An input that breaks a rule of `bench.fuzz_target` is kept: make it a
test. The short runs of every test run are tests/unit/tap/test_observer_fuzz.py and test_hostile.py.
"""

import asyncio
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from bench import report
from bench.fuzz_seeds import SEEDS
from bench.servers.base import log_tail, running
from bench.servers.venvs import environment
from rich.console import Console
from rich.table import Table

from latentry_serving.contract.errors import OperationFailed

_ROOT = Path(__file__).parents[1]
_MAX_INPUT_BYTES = 8_192
_MAX_MEMORY_MB = 256
_MAX_INPUT_SECONDS = 2
_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """One observer's run. An execution is one input, read along twice."""

    observer: str
    executions: int
    slowest_seconds: int
    peak_memory_mb: int
    branches: int
    """Reached in the observers and in hpack."""
    finding: str
    """Empty, or the end of the log."""


async def fuzz(observer: str, python: Path, minutes: float, findings: Path, work: Path) -> Result:
    """Fuzzes one observer.

    Raises:
        OperationFailed: the fuzzer itself failed.
    """
    corpus = work / observer
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[observer]):
        (corpus / f"seed-{number}").write_bytes(seed)
    log = work / f"{observer}.log"
    command = [
        python, "-m", "bench.fuzz_target", observer, corpus, f"-max_total_time={round(minutes * 60)}",
        f"-max_len={_MAX_INPUT_BYTES}", f"-rss_limit_mb={_MAX_MEMORY_MB}", f"-timeout={_MAX_INPUT_SECONDS}",
        "-print_final_stats=1", f"-artifact_prefix={findings}/{observer}-",
    ]  # fmt: skip
    path = os.pathsep.join((str(_ROOT), str(_ROOT / "serving")))
    async with running(command, log=log, env={"PYTHONPATH": path}, cwd=work) as process:
        code = await process.wait()
    text = log.read_text(errors="replace")
    statistics = {name: int(value) for name, value in _STATISTIC.findall(text)}
    if "number_of_executed_units" not in statistics and not code:
        raise OperationFailed("the fuzzer gave no figures", remedy="see the end of its log", details=log_tail(log))
    return Result(
        observer,
        statistics.get("number_of_executed_units", 0),
        statistics.get("slowest_unit_time_sec", 0),
        statistics.get("peak_rss_mb", 0),
        int((_COVERAGE.findall(text) or ["0"])[-1]),
        log_tail(log, 40) if code else "",
    )


async def fuzz_all(minutes: float, findings: Path, console: Console) -> list[Result]:
    """Fuzzes both observers at once."""
    python = await environment("fuzz", console) / "bin" / "python"
    findings.mkdir(parents=True, exist_ok=True)
    status = console.status(f"fuzzing both observers for {minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="latentry-fuzz-") as folder, status:
        runs = (fuzz(observer, python, minutes, findings.resolve(), Path(folder)) for observer in SEEDS)
        return list(await asyncio.gather(*runs))


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10,
    findings: Annotated[Path, typer.Option(help="Folder for inputs that break a rule.")] = Path(".latentry/fuzz"),
) -> None:
    """Fuzz the tap's observers; exit code 1 when a rule was broken."""
    console = Console()
    with report.failures_told():
        results = asyncio.run(fuzz_all(minutes, findings, console))
    table = Table("observer", "executions", "branches", "slowest s", "peak MB", "finding")
    for one in results:
        figures = (one.executions, one.branches, one.slowest_seconds, one.peak_memory_mb)
        table.add_row(one.observer, *(f"{figure:,}" for figure in figures), "yes" if one.finding else "none")
    console.print(table)
    for one in results:
        if one.finding:
            console.print(f"{one.observer}: input kept in {findings}\n{one.finding}", markup=False, highlight=False)
    sys.exit(any(one.finding for one in results))


if __name__ == "__main__":
    typer.run(main)
