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

from latentry_operator.local.snapshot import Phase, Snapshot

_STYLE = {
    Phase.STARTING: "yellow",
    Phase.READY: "green",
    Phase.RESTARTING: "yellow",
    Phase.FAILED: "bold red",
    Phase.STOPPED: "dim",
}


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
        return LineScreen(console, json_line, notes=False)
    if output is Output.LIVE or (output is Output.AUTO and console.is_terminal):
        return LiveScreen(console)
    return LineScreen(console, plain_line)


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
    """One line when a model's phase or message changes; traffic alone prints nothing."""

    def __init__(self, console: Console, line: "LineFormat", *, notes: bool = True) -> None:
        """
        Args:
            notes: whether notes are printed too; a program reads snapshots only.
        """
        self._console = console
        self._line = line
        self._notes = notes
        self._last: dict[str, tuple[Phase, str]] = {}

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        for snapshot in snapshots:
            state = (snapshot.phase, snapshot.message)
            if self._last.get(snapshot.name) != state:
                self._last[snapshot.name] = state
                self._console.out(self._line(snapshot), highlight=False)

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
    """Turns a snapshot into one line."""

    def __call__(self, snapshot: Snapshot, /) -> str: ...


def plain_line(snapshot: Snapshot) -> str:
    """``digits-vae 1 Ready: serving on ...``."""
    return f"{snapshot.name} {snapshot.version} {snapshot.phase}: {snapshot.message}"


def json_line(snapshot: Snapshot) -> str:
    """The whole snapshot as one JSON object with snake_case keys."""
    return json.dumps(asdict(snapshot))


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
            snapshot.message,
        )
    return view


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
