"""The face of `latentry up`: a live table in a terminal, one line per change elsewhere, or JSON lines for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from latentry_operator.local.snapshot import Phase, RolloutView, Snapshot

_STYLE = {
    Phase.STARTING: "yellow",
    Phase.READY: "green",
    Phase.RESTARTING: "yellow",
    Phase.FAILED: "bold red",
    Phase.STOPPED: "dim",
}
_COMPLETE = "Complete"
_ROLLOUT_STYLE = {"Rejected": "bold red", "Held": "bold red", "RollbackTargetBroken": "bold red"}
"""Of SummaryReason's words; importing the policy would slow every command down."""
_VERDICT_STYLE = {"Pass": "green", "Fail": "bold red", "Wait": "yellow"}


class Output(StrEnum):
    """How `latentry up` reports."""

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSON = "json"


class Screen(Protocol):
    """Shows snapshots as they change. A context manager, so that a terminal is always given back."""

    def show(self, snapshots: Sequence[Snapshot]) -> None: ...
    def note(self, text: str) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_screen(output: Output, console: Console) -> Screen:
    """The screen that fits: AUTO is LIVE in a terminal and PLAIN anywhere else."""
    if output is Output.JSON:
        return LineScreen(console, json_lines, notes=False)
    if output is Output.LIVE or (output is Output.AUTO and console.is_terminal):
        return LiveScreen(console)
    return LineScreen(console, plain_lines)


class LiveScreen:
    """A table that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        self._live.update(table(snapshots))

    def note(self, text: str) -> None:
        self._live.console.out(text, highlight=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


class LineScreen:
    """Lines when a model's phase, its message or its rollout changes; traffic alone prints nothing."""

    def __init__(self, console: Console, lines: "LineFormat", *, notes: bool = True) -> None:
        """
        Args:
            notes: whether notes are printed too; a program reads snapshots only.
        """
        self._console = console
        self._lines = lines
        self._notes = notes
        self._last: dict[str, Snapshot] = {}

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            before = self._last.get(snapshot.name)
            if before is None or _news(before) != _news(snapshot):
                self._last[snapshot.name] = snapshot
                for line in self._lines(snapshot, before):
                    self._console.out(line, highlight=False)

    def note(self, text: str) -> None:
        if self._notes:
            self._console.out(text, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class LineFormat(Protocol):
    """Turns a snapshot into lines, given the one that was shown before it."""

    def __call__(self, snapshot: Snapshot, before: Snapshot | None, /) -> list[str]: ...


def _news(snapshot: Snapshot) -> tuple[Phase, str, RolloutView | None]:
    return snapshot.phase, snapshot.message, snapshot.rollout.news if snapshot.rollout is not None else None


def plain_lines(snapshot: Snapshot, before: Snapshot | None) -> list[str]:
    """``digits-vae 1 Ready: serving on ...``, and what happened since: ``digits-vae rollout Promoted: ...``."""
    lines = []
    if before is None or (before.phase, before.message, before.version) != (
        snapshot.phase,
        snapshot.message,
        snapshot.version,
    ):
        lines.append(f"{snapshot.name} {snapshot.version} {snapshot.phase}: {snapshot.message}")
    told = before.rollout.happenings if before is not None and before.rollout is not None else ()
    if snapshot.rollout is not None:
        new = [happening for happening in snapshot.rollout.happenings if happening not in told]
        lines += [f"{snapshot.name} rollout {one.reason}: {one.message}" for one in new]
    return lines


def json_lines(snapshot: Snapshot, _before: Snapshot | None) -> list[str]:
    """The whole snapshot as one JSON object with snake_case keys."""
    return [json.dumps(asdict(snapshot))]


def table(snapshots: Sequence[Snapshot]) -> Table:
    """The live view."""
    view = Table(expand=False, pad_edge=False)
    for heading in ("MODEL", "VERSION", "STATE"):
        view.add_column(heading, no_wrap=True)
    for heading in ("REQ/S", "P50", "P99", "REQUESTS", "ERRORS"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("WHAT IS HAPPENING", overflow="fold")
    for snapshot in snapshots:
        view.add_row(
            snapshot.name,
            snapshot.version,
            Text(snapshot.phase, style=_STYLE[snapshot.phase]),
            *_traffic_cells(snapshot),
            _happening(snapshot),
        )
    return view


def _happening(snapshot: Snapshot) -> Text:
    """The model's message, below it what its rollout does or why it ended, its gates and a refused edit."""
    told, rollout = Text(snapshot.message), snapshot.rollout
    if rollout is None:
        return told
    if rollout.reason != _COMPLETE and rollout.stable is not None:
        told.append(f"\n{rollout.reason}: {rollout.message}", style=_ROLLOUT_STYLE.get(rollout.reason, "yellow"))
    for verdict in rollout.verdicts:
        told.append(f"\n  {verdict.gate} ")
        told.append(verdict.verdict, style=_VERDICT_STYLE[verdict.verdict])
        told.append(f" {verdict.message}", style="dim")
    if rollout.happenings and rollout.reason == _COMPLETE and rollout.previous is not None:
        told.append(f"\n{rollout.message}", style="dim")
    for note in rollout.notes:
        told.append(f"\n{note}", style="dim")
    if rollout.edit:
        told.append(f"\nedit refused, what runs goes on: {rollout.edit}", style="bold red")
    return told


def _traffic_cells(snapshot: Snapshot) -> tuple[str, str, str, str, Text]:
    traffic = snapshot.traffic
    if traffic is None:
        return "-", "-", "-", "-", Text("-")
    return (
        f"{traffic.requests_per_second:.1f}",
        milliseconds(traffic.p50_seconds),
        milliseconds(traffic.p99_seconds),
        str(traffic.requests),
        Text(str(traffic.errors), style="bold red" if traffic.errors else ""),
    )


def milliseconds(seconds: float | None) -> str:
    """``1.35 ms``, or a dash when nothing was measured."""
    return "-" if seconds is None else f"{seconds * 1e3:.2f} ms"
