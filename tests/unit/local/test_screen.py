"""The faces of `latentry up`: a table, plain lines, JSON lines; lines only when something changed."""

import io
import json
from dataclasses import replace

from rich.console import Console

from latentry_operator.local.screen import LineScreen, LiveScreen, Output, json_lines, make_screen, plain_lines, table
from latentry_operator.local.snapshot import (
    Addresses,
    HappeningView,
    Phase,
    RevisionView,
    RolloutView,
    Snapshot,
    Traffic,
    VerdictView,
)

STARTING = Snapshot("digits-vae", "1", Phase.STARTING, "loading 5 graphs")
READY = Snapshot(
    "digits-vae",
    "1",
    Phase.READY,
    "serving",
    addresses=Addresses("127.0.0.1:8080", "127.0.0.1:9000", "127.0.0.1:9400", "http://127.0.0.1:9500/#digits-vae"),
    traffic=Traffic(requests_per_second=12.34, p50_seconds=0.00135, p99_seconds=None, requests=40, errors=2),
)

WATCHED = RolloutView(
    phase="Watching",
    reason="Watching",
    message="watched for 1 of 5 s",
    serving="digits-vae-2",
    stable=RevisionView("digits-vae-1", "1", "sha256:1"),
    candidate=RevisionView("digits-vae-2", "2", "sha256:2"),
    previous=None,
    weight=100,
    since=10.0,
    verdicts=(VerdictView("slo", "Wait", "TooLittleTraffic", "3 of at least 100 requests"),),
    happenings=(HappeningView(9.0, "Normal", "TrafficSwitched", "digits-vae-2 has all traffic"),),
)


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=140), stream


def test_lines_come_only_when_phase_or_message_changes() -> None:
    target, stream = console()
    with LineScreen(target, plain_lines) as screen:
        for snapshot in (STARTING, STARTING, READY, READY):
            screen.show([snapshot])
    assert stream.getvalue().splitlines() == ["digits-vae 1 Starting: loading 5 graphs", "digits-vae 1 Ready: serving"]


def test_json_lines_carry_the_whole_snapshot() -> None:
    data = json.loads(json_lines(READY, None)[0])
    assert data["phase"] == "Ready"
    assert data["addresses"] == {
        "http": "127.0.0.1:8080",
        "grpc": "127.0.0.1:9000",
        "admin": "127.0.0.1:9400",
        "page": "http://127.0.0.1:9500/#digits-vae",
    }
    assert data["traffic"]["errors"] == 2


def test_notes_are_for_people() -> None:
    told = []
    for output in (Output.PLAIN, Output.JSON, Output.LIVE):
        target, stream = console()
        with make_screen(output, target) as screen:
            screen.note("page: http://127.0.0.1:9500/")
        told.append("page: http://127.0.0.1:9500/" in stream.getvalue())
    assert told == [True, False, True]


def test_a_long_json_line_is_never_wrapped() -> None:
    target, stream = console()
    target.width = 20
    LineScreen(target, json_lines).show([READY])
    assert json.loads(stream.getvalue())["name"] == "digits-vae"


def test_the_table_shows_what_was_measured_and_dashes_for_what_was_not() -> None:
    target, stream = console()
    target.print(table([STARTING, READY]))
    text = stream.getvalue()
    for cell in ("12.3", "1.35 ms", "40", "2", "Starting", "loading 5 graphs"):
        assert cell in text
    ready_row = next(line for line in text.splitlines() if "Ready" in line)
    assert ready_row.count(" - ") == 1, "p99 was not measured"


def test_auto_is_live_in_a_terminal_and_plain_elsewhere() -> None:
    assert isinstance(make_screen(Output.AUTO, console(terminal=True)[0]), LiveScreen)
    assert isinstance(make_screen(Output.AUTO, console()[0]), LineScreen)
    assert isinstance(make_screen(Output.JSON, console(terminal=True)[0]), LineScreen)


def test_a_rollout_is_told_when_something_happened_not_when_figures_change() -> None:
    later = replace(WATCHED, message="watched for 2 of 5 s", verdicts=(replace(WATCHED.verdicts[0], message="4"),))
    ended = replace(
        WATCHED,
        reason="Rejected",
        happenings=(*WATCHED.happenings, HappeningView(11.0, "Warning", "CandidateRejected", "gate slo failed")),
    )
    target, stream = console()
    with LineScreen(target, plain_lines) as screen:
        for rollout in (None, WATCHED, later, ended):
            screen.show([replace(READY, rollout=rollout)])
    assert stream.getvalue().splitlines() == [
        "digits-vae 1 Ready: serving",
        "digits-vae rollout TrafficSwitched: digits-vae-2 has all traffic",
        "digits-vae rollout CandidateRejected: gate slo failed",
    ]


def test_json_lines_carry_the_rollout_as_plain_values() -> None:
    data = json.loads(json_lines(replace(READY, rollout=WATCHED), None)[0])["rollout"]
    assert data["candidate"] == {"revision": "digits-vae-2", "version": "2", "digest": "sha256:2"}
    assert data["verdicts"][0]["verdict"] == "Wait"
    assert data["happenings"][0]["reason"] == "TrafficSwitched"
    assert data["previous"] is None


def test_the_table_tells_the_rollouts_story() -> None:
    refused = replace(WATCHED, edit="m.yaml: 1 problem", notes=("Canary switches at once",))
    target, stream = console()
    target.print(table([replace(READY, rollout=refused)]))
    text = stream.getvalue()
    for part in ("Watching: watched for 1 of 5 s", "slo Wait 3 of at least 100", "edit refused", "Canary switches"):
        assert part in text
    quiet = replace(WATCHED, reason="Complete", candidate=None, verdicts=(), message="revision 2 runs")
    target, stream = console()
    target.print(table([replace(READY, rollout=quiet)]))
    assert "revision 2 runs" not in stream.getvalue(), "nothing is under way and nothing is kept"
