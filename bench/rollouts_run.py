"""One rollout on one machine, from the edit of the model's file to the verdict, with users' traffic all the time."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from bench.rollouts_traffic import Call, Harm, Traffic, harm

LATENTRY = Path(sys.executable).parent / "latentry"
READY_SECONDS = 120.0
_FIRST_PORT, _STEP = 20_000, 40
"""Of the first run of process 0, and between two runs of a process: the next free ports from there are taken."""
_counter = itertools.count()

HELD = "held"
VERDICTS = {"Promoted": "promoted", "CandidateRejected": "rolled back", "RolloutHeld": HELD}
SWITCHED = "TrafficSwitched"
REFUSED = "edit refused"
NONE = "no verdict"

Snapshot = Mapping[str, Any]
Fault = Callable[["Up", Traffic], bool]
"""Breaks the candidate from outside, looked at several times a second; true once it has done so and is done."""


class Up:
    """`latentry up FILE --output json` as users run it, and everything it said."""

    def __init__(self, file: Path, first_port: int) -> None:
        ports = zip(("--http-port", "--grpc-port", "--admin-port", "--page-port"), range(4), strict=True)
        words = [word for name, i in ports for word in (name, str(first_port + 10 * i))]
        self.errors = file.parent / "up.stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [str(LATENTRY), "up", file.name, "--output", "json", *words],
                stdout=subprocess.PIPE, stderr=errors, text=True, cwd=file.parent,
            )  # fmt: skip
        self.said: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.said.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def latest(self) -> dict[str, Any]:
        return self.said[-1] if self.said else {}

    def wait(self, done: Callable[[Snapshot], bool], seconds: float) -> bool:
        """Until what it said last fulfils this, or the time is over.

        Raises:
            AssertionError: it ended.
        """
        with self._news:
            found = self._news.wait_for(lambda: self._ended or (bool(self.said) and done(self.latest)), seconds)
            if self._ended:
                raise AssertionError(f"`latentry up` ended: {self.errors.read_text()[-2000:]}\n{self.latest}")
        return found

    def tritons(self) -> list[psutil.Process]:
        """Its tritonserver processes, the oldest first."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if Path((child.cmdline() or [""])[0]).name == "tritonserver":
                    found.append(child)
        return sorted(found, key=lambda child: child.create_time())

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Outcome:
    """What became of an edit.

    Attributes:
        verdict: promoted, rolled back, held, edit refused or no verdict.
        why: the gates that spoke, or the reason, and the sentence about it.
        seconds: from the edit to the verdict.
        switched: whether the version had the users' traffic.
        with_traffic_seconds: for how long, until the verdict.
        during: users' requests from the edit until ``settle`` seconds after the verdict.
        before: of the stable version, before the edit.
        answers: version -> right answers of it from the edit on.
        happenings: reasons in their order.
    """

    verdict: str
    why: str
    seconds: float
    switched: bool
    with_traffic_seconds: float
    during: Harm
    before: Harm
    answers: Mapping[str, int]
    happenings: tuple[str, ...]


@dataclass
class Rollouts:
    """A stable version that serves users.

    Attributes:
        folder: for the model's file and what `latentry up` writes.
        spec: of the LatentModel, without its bundle.
        slow_seconds: a right answer that takes longer harms its user.
    """

    folder: Path
    name: str
    spec: Mapping[str, Any]
    slow_seconds: float
    settle_seconds: float = 3.0
    said: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self, bundle: Path) -> Iterator[Up]:
        """`latentry up` on the stable bundle until the context ends.

        Raises:
            AssertionError: it does not become ready.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write(bundle)
        up = Up(self.folder / f"{self.name}.yaml", _FIRST_PORT + os.getpid() % 10_000 + _STEP * next(_counter))
        try:
            assert up.wait(lambda s: s["phase"] in ("Ready", "Failed"), READY_SECONDS), up.latest
            assert up.latest["phase"] == "Ready", up.latest
            yield up
        finally:
            up.end()
            self.said = up.said

    def write(self, bundle: Path, digest: str | None = None) -> None:
        """The model's file, replaced in one step."""
        source = {"uri": f"file://{bundle}"} | ({"digest": digest} if digest else {})
        document = {
            "apiVersion": "latentry.dev/v1alpha1", "kind": "LatentModel", "metadata": {"name": self.name},
            "spec": {**self.spec, "bundle": source},
        }  # fmt: skip
        path = self.folder / f"{self.name}.yaml"
        new = path.with_suffix(".new")
        new.write_text(yaml.safe_dump(document))
        new.replace(path)

    def roll(
        self,
        up: Up,
        traffic: Traffic,
        bundle: Path,
        *,
        digest: str | None = None,
        fault: Fault | None = None,
        patience_seconds: float = 180.0,
    ) -> Outcome:
        """Edits the file and waits for the verdict. Users' requests so far are ``before``."""
        earlier, edited = len(traffic.calls), time.time()
        self.write(bundle, digest)
        deadline, done = time.monotonic() + patience_seconds, False
        while not done and time.monotonic() < deadline:
            done = up.wait(lambda s: _verdict(s, edited)[0] != NONE, 0.25)
            if fault is not None and fault(up, traffic):
                fault = None
        verdict, why, at = _verdict(up.latest, edited)
        time.sleep(self.settle_seconds)
        calls, happenings = list(traffic.calls), _since(up.latest, edited)
        switched = next((h["at"] for h in happenings if h["reason"] == SWITCHED), None)
        during = calls[earlier:]
        trial = (switched, at + 1) if switched is not None else (0.0, 0.0)
        return Outcome(
            verdict=verdict,
            why=why,
            seconds=at - edited,
            switched=switched is not None,
            with_traffic_seconds=max(0.0, at - switched) if switched is not None else 0.0,
            during=harm(during, self.slow_seconds, trial),
            before=harm(calls[:earlier], self.slow_seconds),
            answers=_answers(during),
            happenings=tuple(h["reason"] for h in happenings),
        )


def kill_under_load(answers: int) -> Fault:
    """Kills the newest Triton with SIGKILL once the candidate has all the traffic and users had so many answers."""
    since: list[int] = []

    def fault(up: Up, traffic: Traffic) -> bool:
        if (up.latest["rollout"] or {}).get("weight") != 100:
            return False
        since[:] = since or [len(traffic.calls)]
        if len(traffic.calls) - since[0] < answers:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            up.tritons()[-1].kill()
        return True

    return fault


def _since(snapshot: Snapshot, edited: float) -> list[dict[str, Any]]:
    happenings = (snapshot.get("rollout") or {}).get("happenings", [])
    return [h for h in happenings if h["at"] >= edited]


def _verdict(snapshot: Snapshot, edited: float) -> tuple[str, str, float]:
    """Verdict, why, and when it fell, Unix time."""
    for happening in _since(snapshot, edited):
        if happening["reason"] in VERDICTS:
            return VERDICTS[happening["reason"]], happening["message"], happening["at"]
        if happening["reason"] == "EditRefused":
            return REFUSED, happening["message"], happening["at"]
    return NONE, (snapshot.get("rollout") or {}).get("message", ""), time.time()


def _answers(calls: list[Call]) -> dict[str, int]:
    versions = sorted({call.answer for call in calls if call.answer})
    return {version: sum(call.answer == version for call in calls) for version in versions}
