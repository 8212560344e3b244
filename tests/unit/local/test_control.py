"""The control socket of `latentry up`: commands reach the model, answers come back, nobody else may open it."""

import asyncio
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from latentry_operator.local.control import CONTROL_SOCKET, ControlServer, ask, listens, socket_path
from latentry_operator.local.snapshot import HappeningView, Phase, RevisionView, RolloutView, Snapshot, VerdictView
from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.rollout_cli import LocalTarget, text
from latentry_serving.contract.errors import OperationFailed

ROLLOUT = RolloutView(
    phase="Gating",
    reason="Held",
    message="revision tiny-2 is held",
    serving="tiny-1",
    stable=RevisionView("tiny-1", "1", "sha256:1"),
    candidate=RevisionView("tiny-2", "2", "sha256:2"),
    previous=None,
    weight=0,
    since=12.5,
    verdicts=(VerdictView("golden", "Pass", "GoldenReproduced", "1 operation"),),
    edit="m.yaml: 1 problem",
    notes=("Canary switches at once",),
)


class Model:
    """Notes its commands."""

    def __init__(self) -> None:
        self.snapshot = Snapshot("tiny", "1", Phase.READY, "serves", rollout=ROLLOUT)
        self.commands: list[Verb] = []

    async def command(self, verb: Verb) -> list[str]:
        self.commands.append(verb)
        return [f"{verb} is done"]


async def test_commands_are_carried_out_and_answered(tmp_path: Path) -> None:
    model = Model()
    async with ControlServer(tmp_path, model):
        mode = (tmp_path / CONTROL_SOCKET).stat().st_mode
        status = await asyncio.to_thread(ask, tmp_path, "status")
        undone = await asyncio.to_thread(ask, tmp_path, "undo")
        with pytest.raises(OperationFailed, match="no such command"):
            await asyncio.to_thread(ask, tmp_path, "explode")
    assert (stat.S_ISSOCK(mode), mode & 0o777) == (True, 0o600)
    assert model.commands == [Verb.UNDO]
    assert status["said"] == []
    assert undone["said"] == ["undo is done"]
    assert text(undone).splitlines() == [
        "undo is done",
        "stable     tiny-1, version 1, has the traffic",
        "candidate  tiny-2, version 2",
        "state      Held: revision tiny-2 is held",
        "gate       golden Pass (GoldenReproduced): 1 operation",
        "note       Canary switches at once",
        "edit       refused: m.yaml: 1 problem",
    ]
    assert not (tmp_path / CONTROL_SOCKET).exists()


async def test_a_command_with_nothing_to_act_on_fails(tmp_path: Path) -> None:
    model = Model()
    ignored = HappeningView(1.0, "Warning", "CommandIgnored", "undo is done")
    model.snapshot = replace(model.snapshot, rollout=replace(ROLLOUT, happenings=(ignored,)))
    async with ControlServer(tmp_path, model):
        with pytest.raises(OperationFailed, match="undo is done; nothing was changed"):
            await asyncio.to_thread(LocalTarget(tmp_path).command, Verb.UNDO)
        assert "pause is done" in await asyncio.to_thread(LocalTarget(tmp_path).command, Verb.PAUSE)


async def test_a_socket_that_was_left_over_is_nobody_and_is_replaced(tmp_path: Path) -> None:
    assert not listens(tmp_path)
    server = await asyncio.start_unix_server(lambda *_: None, str(tmp_path / CONTROL_SOCKET))
    server.close()
    (tmp_path / CONTROL_SOCKET).touch()
    with pytest.raises(OperationFailed, match="no `latentry up` serves"):
        ask(tmp_path, "status")
    async with ControlServer(tmp_path, Model()):
        assert listens(tmp_path)


def test_a_path_too_long_for_a_socket_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert socket_path(deep / "a") == "a"
    monkeypatch.chdir("/")
    with pytest.raises(OperationFailed, match="shorter --run-dir"):
        socket_path(deep / "a")
