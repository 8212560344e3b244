"""A small world for the rollout policy: revisions that start, answer, fail and die; a clock; a transcript.

It does what a body does: makes and removes what `Desired` says, sets the shares, counts requests from the beginning of
each stage, and keeps the state in a LatentModel's status.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from latentry_operator.api.latentmodel import LatentModelSpec
from latentry_operator.api.status import RolloutStatus, Verdict
from latentry_operator.plan.rollout.facts import (
    Answer,
    Bounded,
    ContractChange,
    Evidence,
    GoldenFacts,
    Histogram,
    Judging,
    Latent,
    MonitorFacts,
    Pairs,
    ProbeResult,
    Reconstruction,
    RolloutFacts,
    Running,
    Traffic,
    parse_command,
)
from latentry_operator.plan.rollout.machine import Decision, advance
from latentry_operator.plan.rollout.policy import Policy, policy_of
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.status.rollout import rollout_state, rollout_status

START = 1_800_000_000.0
EQUALLY_LONG = Bounded(1, 0.99, 1.01)
SAME = Pairs(200, 50, Bounded(0.9999, 0.999, 1), Bounded(0.99, 0.97, 1), Bounded(0.999, 0.98, 1), EQUALLY_LONG)
ROTATED = Pairs(
    200,
    50,
    Bounded(-0.04, -0.1, 0.02),
    Bounded(1, 0.99, 1),
    Bounded(0, 0, 0.02),
    EQUALLY_LONG,
    Bounded(0.999, 0.98, 1),
    "map.npy",
)
UNRELATED = Pairs(
    200, 50, Bounded(0.12, 0.1, 0.14), Bounded(0.006, 0, 0.02), Bounded(0, 0, 0.02), EQUALLY_LONG, Bounded(0, 0, 0.02)
)
AS_GOOD = Reconstruction(200, 0.021, 0.0212, 0.0, Bounded(1.01, 0.98, 1.04))
WORSE = Reconstruction(200, 0.021, 0.067, 0.0, Bounded(3.2, 2.9, 3.4))
"""Of a VAE that reconstructs hardly better than the mean of the inputs."""
MOSTLY_ACTIVE = Latent(16, 12, True)
EDGES = (0.001, 0.01, 0.02, 0.05, 0.1, 1.0)
"""Seconds; the objective is 100 ms."""
FAST, TWICE_AS_SLOW, TOO_SLOW = 0, 2, 4
"""Bins of EDGES."""


@dataclass
class Behaviour:
    """How one revision is. Rates are shares of its requests."""

    startup: float = 20.0
    never_ready: str = ""
    refused: str = ""
    restarts: int = 0
    errors: float = 0.0
    latency: int = 0
    """Which bin of EDGES its requests fall into."""
    golden: ProbeResult = ProbeResult.PASSED
    changes: tuple[ContractChange, ...] | None = ()
    space: str = "digits-a"
    pairs: Pairs | None = SAME
    latent: Latent | None = MOSTLY_ACTIVE
    monitor: MonitorFacts | None = field(default_factory=lambda: MonitorFacts(Judging.ON, sufficient=True))
    answers: dict[str, Answer] = field(default_factory=dict)
    missing: int = 0
    """Replicas that do not answer."""
    lost: bool = False
    """All its replicas are gone, though they should run."""


@dataclass
class Pod:
    """What runs of one revision."""

    created: float
    wanted: int
    started: list[float]


def spec(rollout: dict[str, Any] | None = None, slo: dict[str, Any] | None = None) -> LatentModelSpec:
    """A LatentModel's spec with these sections."""
    return LatentModelSpec.model_validate(
        {
            "family": "VAE",
            "bundle": {"uri": "file:///bundle"},
            "rollout": rollout or {},
            "slo": slo or {"availability": 99.9, "latency": [{"within": "100ms", "objective": 99}]},
        }
    )


class World:
    """The world and its story so far."""

    def __init__(
        self, given: LatentModelSpec, behaviours: dict[str, Behaviour], *, stable: str = "v1", replicas: int = 2
    ) -> None:
        self.policy: Policy = policy_of(given, weights=True, mirror=True)
        self.behaviours = behaviours
        self.target = stable
        self.full = replicas
        self.now = START
        self.offset = 0.0
        self.rate = 20.0
        self.status: RolloutStatus | None = None
        self.mirror = ""
        self.shares: dict[str, int] = {}
        self.pods: dict[str, Pod] = {}
        self.served: dict[str, float] = {}
        self.baseline: dict[str, float] = {}
        self.bad_since: dict[str, float] = {}
        self.stage = ""
        self.command = ""
        self.lines: list[str] = []
        self.decisions: list[tuple[RolloutState, RolloutFacts, Decision]] = []
        if stable:
            self.pods[stable] = Pod(START - 86_400, replicas, [START - 80_000] * replicas)
            self.shares = {stable: 100}
            self.status = rollout_status(RolloutState(stable=stable, looked=START))

    # What scripts do.

    def behave(self, revision: str, **changes: Any) -> None:
        """Changes how a revision is."""
        for name, value in changes.items():
            setattr(self.behaviours[revision], name, value)

    def note(self, text: str) -> None:
        """A line of the transcript that is not the machine's."""
        self.lines.append(f"{_clock(self.now - START)}  -- {text}")

    # What a body does.

    def ready(self, revision: str) -> int:
        """Replicas that answer."""
        how, pod = self.behaviours[revision], self.pods.get(revision)
        if pod is None or how.never_ready or how.refused or how.lost:
            return 0
        return max(0, sum(1 for started in pod.started if self.now - started >= how.startup) - how.missing)

    def facts(self) -> RolloutFacts:
        """One look at everything."""
        running = {
            name: Running(
                self.ready(name),
                pod.wanted,
                pod.created,
                self.behaviours[name].restarts,
                self.behaviours[name].refused,
                self.behaviours[name].never_ready,
            )
            for name, pod in self.pods.items()
        }
        state = rollout_state(self.status) or RolloutState()
        return RolloutFacts(
            self.target, self.full, running, dict(self.shares), self._evidence(state), parse_command(self.command)
        )

    def _evidence(self, state: RolloutState) -> Evidence:
        how, old = self.behaviours.get(state.candidate), self.behaviours.get(state.stable)
        if how is None or not self.ready(state.candidate):
            return Evidence(stage=self.stage)
        traffic = self._traffic(state.candidate)
        return Evidence(
            stage=self.stage,
            changes=how.changes,
            stable_space=old.space if old else "",
            candidate_space=how.space,
            golden=(GoldenFacts("encode", how.golden, "the largest error is 0.3, 0.01 is allowed"),),
            pairs=how.pairs,
            incomparable="",
            stable_latent=old.latent if old else None,
            candidate_latent=how.latent,
            traffic=traffic,
            stable_traffic=self._stable_traffic(state.stable),
            monitor=how.monitor,
            stable_monitor=old.monitor if old else None,
            answers=how.answers,
        )

    def _traffic(self, revision: str) -> Traffic:
        how = self.behaviours[revision]
        requests = int(self.served.get(revision, 0.0) - self.baseline.get(revision, 0.0))
        errors = min(requests, int(self.bad_since.get(revision, 0.0)))
        counts = tuple(requests - errors if index == how.latency else 0 for index in range(len(EDGES) - 1))
        return Traffic(requests, errors, Histogram(EDGES, counts))

    def _stable_traffic(self, revision: str) -> Traffic | None:
        if revision not in self.behaviours:
            return None
        counts = tuple(5_000 if index == self.behaviours[revision].latency else 0 for index in range(len(EDGES) - 1))
        return Traffic(5_000, int(5_000 * self.behaviours[revision].errors), Histogram(EDGES, counts))

    def look(self) -> Decision:
        """One pass of the body: look, decide, remember, carry out, tell."""
        facts, before = self.facts(), rollout_state(self.status)
        decision = advance(before, facts, self.policy, self.now + self.offset)
        self.decisions.append((before or RolloutState(), facts, decision))
        self.status = RolloutStatus.model_validate(rollout_status(decision.state).to_dict())
        assert rollout_state(self.status) == decision.state
        self._carry_out(decision)
        for happening in decision.happenings:
            shares = " ".join(f"{name}:{weight}" for name, weight in sorted(decision.desired.weights.items())) or "none"
            mark = "!" if happening.kind == "Warning" else " "
            self.lines.append(
                f"{_clock(self.now - START)}{mark} {shares:<13} {decision.state.phase:<10} "
                f"{happening.reason}: {happening.message}"
            )
        return decision

    def _carry_out(self, decision: Decision) -> None:
        desired = decision.desired
        for name in self.pods.keys() - desired.replicas.keys():
            del self.pods[name]
        for name, wanted in desired.replicas.items():
            if not wanted and name not in self.pods:
                continue
            pod = self.pods.setdefault(name, Pod(self.now, 0, []))
            pod.started = pod.started[:wanted] + [self.now] * (wanted - len(pod.started))
            pod.wanted = wanted
        self.shares = dict(desired.weights)
        self.mirror = desired.mirror
        if decision.state.stage != self.stage:
            self.stage = decision.state.stage
            self.baseline = dict(self.served)
            self.bad_since = {}

    def pass_time(self, seconds: float) -> None:
        """Requests are served meanwhile."""
        for name, weight in [*self.shares.items(), *([(self.mirror, 100)] if self.mirror else [])]:
            if name in self.behaviours and self.ready(name):
                served = seconds * self.rate * weight / 100
                self.served[name] = self.served.get(name, 0.0) + served
                self.bad_since[name] = self.bad_since.get(name, 0.0) + served * self.behaviours[name].errors
        self.now += seconds

    def run(self, script: Sequence[tuple[float, Callable[["World"], None]]] = (), until: float = 6 * 3_600) -> "World":
        """Looks whenever the machine asks for it, and plays the script, until ``until`` seconds or until it rests."""
        todo, end = sorted(script, key=lambda item: item[0]), START + until
        while self.now <= end:
            while todo and self.now - START >= todo[0][0]:
                todo.pop(0)[1](self)
            decision = self.look()
            wait = decision.look_seconds
            if wait is None and not todo:
                break
            following = START + todo[0][0] if todo else end + 1
            self.pass_time(max(0.0, min(following - self.now, wait if wait is not None else 1e9)))
        return self

    def transcript(self) -> str:
        """The story: rules, one line for each transition, the end."""
        policy = self.policy
        stages = ", ".join(f"{stage.weight} % for {stage.hold:g} s" for stage in policy.stages)
        shadow = f"shadow {policy.shadow:g} s, " if policy.shadow else ""
        head = [
            f"rules: {shadow}{stages}; deadline {policy.deadline:g} s, keep {policy.keep_for:g} s,"
            f" {'Rollback' if policy.rollback else 'Hold'}"
        ]
        last = self.decisions[-1][2]
        waits = [f"{r.gate} {r.verdict}" for r in last.results if r.verdict is not Verdict.PASS]
        ran = ", ".join(f"{name} x{pod.wanted}" for name, pod in sorted(self.pods.items()))
        tail = [
            f"end: {last.summary.reason}: {last.summary.message}",
            f"     runs {ran or 'nothing'}; traffic {self.shares or 'none'}" + (f"; {waits}" if waits else ""),
        ]
        return "\n".join([*head, *self.lines, *tail]) + "\n"


def to(revision: str) -> Callable[[World], None]:
    """The spec asks for this revision."""

    def act(world: World) -> None:
        world.note(f"the spec asks for {revision}")
        world.target = revision

    return act


def say(command: str) -> Callable[[World], None]:
    """Somebody gives a command."""

    def act(world: World) -> None:
        world.note(f"somebody says {command}")
        world.command = command

    return act


def becomes(revision: str, why: str, **changes: Any) -> Callable[[World], None]:
    """A revision changes."""

    def act(world: World) -> None:
        world.note(f"{revision}: {why}")
        world.behave(revision, **changes)

    return act


def jump(seconds: float) -> Callable[[World], None]:
    """The wall clock jumps."""

    def act(world: World) -> None:
        world.note(f"the clock jumps by {seconds:+g} s")
        world.offset += seconds

    return act


def stop(seconds: float) -> Callable[[World], None]:
    """The operator does not run for a while; its memory is in the status."""

    def act(world: World) -> None:
        world.note(f"the operator is down for {seconds:g} s")
        world.pass_time(seconds)

    return act


def users(rate: float) -> Callable[[World], None]:
    """Users send this many requests per second from now on."""

    def act(world: World) -> None:
        world.note(f"users send {rate:g} requests per second")
        world.rate = rate

    return act


def forget(world: World) -> None:
    """The status is lost, and the operator starts anew."""
    world.note("the status is lost")
    world.status = None


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600:d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
