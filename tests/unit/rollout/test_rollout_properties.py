"""From any reachable state, whatever is observed: what the machine never does, and that it ends.

A step of a history is a look with arbitrary facts: revisions that answer or not or are gone, evidence of any kind and
of any stage, commands, another target, a clock that jumps, a crash before the decision was carried out or remembered, a
lost status. Histories begin with a good stretch of any length, so that every phase is met.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_world import EDGES, ROTATED, SAME, START, UNRELATED, WORSE, spec

from latentry_operator.api.status import Verdict
from latentry_operator.plan.rollout.facts import (
    Answer,
    ContractChange,
    Evidence,
    GoldenFacts,
    Histogram,
    Judging,
    Latent,
    MonitorFacts,
    ProbeResult,
    RolloutFacts,
    Running,
    Traffic,
    Verb,
    parse_command,
)
from latentry_operator.plan.rollout.machine import Decision, advance
from latentry_operator.plan.rollout.policy import Policy, policy_of, replicas_for
from latentry_operator.plan.rollout.state import Phase, RolloutState
from latentry_operator.status.rollout import rollout_state, rollout_status

NAMES = ("v1", "v2", "v3", "v4")
FULL = 4
SHORT = {
    "deadline": "60s",
    "keepFor": "40s",
    "watchFor": "20s",
    "analysis": {"longestWait": "60s"},
    "gates": {"promql": [{"name": "recall", "query": "x", "min": 0.9}]},
}
POLICIES = [
    policy_of(spec(SHORT | more), weights=True, mirror=True)
    for more in (
        {},
        {"onFailure": "Hold"},
        {"strategy": "Canary", "steps": [{"weight": 10, "for": "20s"}, {"weight": 50, "for": "20s"}]},
        {"strategy": "Canary", "steps": [{"weight": 30, "for": "20s"}], "onFailure": "Hold"},
        {"strategy": "Canary", "steps": [{"weight": 50, "for": "9s"}], "shadow": {"for": "10s"}, "keepFor": "0s"},
        {"watchFor": "0s"},
    )
]
GOOD = Evidence(
    changes=(),
    stable_space="a",
    candidate_space="a",
    golden=(GoldenFacts("encode", ProbeResult.PASSED),),
    pairs=SAME,
    incomparable="",
    traffic=Traffic(5_000, 0, Histogram(EDGES, (5_000, 0, 0, 0, 0))),
    stable_traffic=Traffic(5_000, 0, Histogram(EDGES, (5_000, 0, 0, 0, 0))),
    monitor=MonitorFacts(Judging.ON, sufficient=True),
    stable_monitor=MonitorFacts(Judging.ON, sufficient=True),
    answers={"recall": Answer(0.95, 1)},
)
BAD = [
    replace(GOOD, changes=(ContractChange("operations.encode", True, "gone"),)),
    replace(GOOD, golden=(GoldenFacts("encode", ProbeResult.FAILED),)),
    replace(GOOD, pairs=ROTATED),
    replace(GOOD, pairs=UNRELATED),
    replace(GOOD, traffic=Traffic(500, 250)),
    replace(GOOD, traffic=Traffic(500, 0, Histogram(EDGES, (0, 0, 0, 0, 500)))),
    replace(GOOD, monitor=MonitorFacts(Judging.ON, sufficient=True, unhealthy={"posterior": "collapsed"})),
    replace(GOOD, answers={"recall": Answer(0.1, 1)}),
    replace(GOOD, pairs=replace(SAME, reconstruction=WORSE)),
    replace(GOOD, candidate_latent=Latent(16, 0, True)),
]
OPEN = [
    Evidence(),
    replace(GOOD, pairs=None),
    replace(GOOD, traffic=None),
    replace(GOOD, golden=(GoldenFacts("encode", ProbeResult.UNANSWERED),)),
    replace(GOOD, monitor=MonitorFacts(Judging.STARTING)),
    replace(GOOD, answers={"recall": Answer(None, 1)}),
]


@dataclass(frozen=True)
class Look:
    """What happens at one look."""

    target: str
    ready: Mapping[str, int]
    gone: frozenset[str]
    evidence: Evidence
    stale: bool
    command: str
    seconds: float
    crash: str
    restarts: int
    refused: bool


LOOKS = st.builds(
    Look,
    target=st.sampled_from(["v2"] * 9 + ["v1", "v3", "v4"]),
    ready=st.fixed_dictionaries({name: st.sampled_from([0, 0, 1, 2, FULL, FULL, FULL, FULL]) for name in NAMES}),
    gone=st.just(frozenset[str]()) | st.frozensets(st.sampled_from(NAMES), max_size=1),
    evidence=st.sampled_from([GOOD] * 24 + BAD * 2 + OPEN),
    stale=st.sampled_from([False] * 9 + [True]),
    command=st.sampled_from([""] * 20 + [f"{verb}:{n}" for verb in Verb for n in (1, 2)]),
    seconds=st.sampled_from([0.0, 1.0, 5.0, 10.0, 15.0, 60.0, 1e6, -1e6]),
    crash=st.sampled_from([""] * 16 + ["not carried out", "not remembered", "forgotten"]),
    restarts=st.sampled_from([0] * 9 + [9]),
    refused=st.sampled_from([False] * 19 + [True]),
)


class Body:
    """Carries decisions out, unless it crashes; what is observed is what was carried out."""

    def __init__(self, policy: Policy, *, first: bool) -> None:
        self.policy = policy
        self.state: RolloutState | None = RolloutState(stable="" if first else "v1", looked=START)
        self.exist: dict[str, float] = {} if first else {"v1": START}
        self.shares: dict[str, int] = {} if first else {"v1": 100}
        self.now = START
        self.born = START

    def facts(self, look: Look) -> RolloutFacts:
        for name in look.gone:
            self.exist.pop(name, None)
        stage = self.state.stage if self.state is not None else ""
        candidate = self.state.candidate if self.state is not None else ""
        revisions = {
            name: Running(
                look.ready[name],
                FULL,
                created,
                look.restarts if name == candidate else 0,
                "another bundle" if look.refused and name == candidate else "",
            )
            for name, created in self.exist.items()
        }
        evidence = replace(look.evidence, stage="v9/1.0" if look.stale else stage)
        return RolloutFacts(look.target, FULL, revisions, dict(self.shares), evidence, parse_command(look.command))

    def look(self, look: Look) -> tuple[RolloutState | None, RolloutFacts, Decision]:
        self.now += look.seconds
        before = None if look.crash == "forgotten" else self.state
        facts = self.facts(look)
        decision = advance(before, facts, self.policy, self.now)
        assert decision == advance(before, facts, self.policy, self.now)
        assert rollout_state(rollout_status(decision.state)) == decision.state
        if look.crash != "not remembered":
            self.state = decision.state
            if look.crash != "not carried out":
                self.carry_out(decision)
        return before, facts, decision

    def carry_out(self, decision: Decision) -> None:
        desired = decision.desired
        for name in desired.replicas.keys() - self.exist.keys():
            self.born += 1.0
            self.exist[name] = self.born
        self.exist = {name: born for name, born in self.exist.items() if name in desired.replicas}
        self.shares = dict(desired.weights)


def check(before: RolloutState | None, facts: RolloutFacts, decision: Decision) -> None:
    """What holds of every decision."""
    state, desired, old = decision.state, decision.desired, facts.traffic
    weights = desired.weights
    assert not weights or sum(weights.values()) == 100
    assert all(weight > 0 for weight in weights.values()) and len(weights) <= 2
    assert weights.keys() <= desired.replicas.keys()
    assert state.stable or not weights, "somebody owns the promotion where there is traffic"
    assert not state.candidate or state.candidate not in (state.stable, state.previous)
    assert (state.phase is Phase.IDLE) == (not state.candidate)
    leaving = state.leaving.revision if state.leaving is not None else ""
    assert weights.keys() <= {state.stable, state.candidate, state.previous, leaving}
    if state.previous in weights:
        assert state.relief == state.previous and not facts.ready(state.stable)
    # Whoever is known to be bad never gains.
    bad = {state.rejection.revision} if state.rejection is not None else set()
    failed = any(result.verdict is Verdict.FAIL for result in decision.results)
    if failed and state.candidate and not state.forced:
        bad.add(state.candidate)
    for name in bad - {state.stable}:
        was = max(old.get(name, 0), _given(before, name))
        assert weights.get(name, 0) <= was, "a failed revision gains nothing"
    # Shares follow readiness.
    held = {state.candidate} if state.held is not None else set()
    serving = [name for name, weight in old.items() if weight and facts.ready(name) and name not in held]
    for name, weight in weights.items():
        if weight <= max(old.get(name, 0), _given(before, name)):
            continue
        if name == state.stable and not facts.ready(name):
            assert not serving or state.leaving is None, "traffic goes to nobody while somebody serves"
        else:
            assert facts.ready(name), "traffic goes only where it is answered"
        if name == state.candidate and not state.relief:
            assert facts.ready(name) >= replicas_for(weight, facts.full), "replicas come before the share"
    if serving and not any(facts.ready(name) for name in weights):
        pytest.fail(f"{serving} served, {dict(weights)} does not")
    if state.phase is Phase.SHADOWING and desired.mirror:
        assert desired.mirror == state.candidate


def _given(before: RolloutState | None, name: str) -> int:
    """The share that was decided, whether carried out or not."""
    if before is None:
        return 0
    if before.relief:
        return 100 if before.relief == name else 0
    if before.leaving is not None and before.leaving.weight:
        return {before.leaving.revision: before.leaving.weight, before.stable: 100 - before.leaving.weight}.get(name, 0)
    return {before.candidate: before.weight, before.stable: 100 - before.weight}.get(name, 0)


PLAIN = Look("v2", dict.fromkeys(NAMES, FULL), frozenset(), GOOD, False, "", 5.0, "", 0, False)


def led(policy: Policy, stretch: int, *, first: bool = False) -> Body:
    """A body after so many good looks."""
    body = Body(policy, first=first)
    for _ in range(stretch):
        body.look(PLAIN)
    return body


many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(
    policy=st.sampled_from(POLICIES),
    first=st.booleans(),
    stretch=st.integers(0, 24),
    looks=st.lists(LOOKS, max_size=30),
)
def test_no_history_breaks_a_rule(policy: Policy, first: bool, stretch: int, looks: list[Look]) -> None:
    body = led(policy, stretch, first=first)
    for look in looks:
        check(*body.look(look))


def drawn(rng: random.Random) -> Look:
    """As LOOKS, many at little cost."""
    return Look(
        target=rng.choice(["v2"] * 9 + ["v1", "v3", "v4"]),
        ready={name: rng.choice([0, 0, 1, 2, FULL, FULL, FULL, FULL]) for name in NAMES},
        gone=frozenset(rng.sample(NAMES, rng.random() < 0.03)),
        evidence=rng.choice(rng.choice([[GOOD], [GOOD], BAD, OPEN])),
        stale=rng.random() < 0.05,
        command=rng.choice([""] * 40 + [f"{verb}:{n}" for verb in Verb for n in (1, 2)]),
        seconds=rng.choice([0.0, 1.0, 5.0, 10.0, 15.0, 60.0, 1e6, -1e6]),
        crash=rng.choice([""] * 30 + ["not carried out", "not remembered", "forgotten"]),
        restarts=9 * (rng.random() < 0.02),
        refused=rng.random() < 0.02,
    )


@pytest.mark.parametrize("policy", range(len(POLICIES)))
def test_no_history_of_many_breaks_a_rule(policy: int) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        body = led(POLICIES[policy], rng.randrange(24), first=rng.random() < 0.1)
        for _ in range(12):
            look = drawn(rng)
            check(*body.look(look))
            for _ in range(rng.choice([0, 0, 3, 8])):
                check(*body.look(PLAIN))


ENDINGS = {
    "all is well": (GOOD, FULL),
    "nothing is known": (Evidence(), FULL),
    "all gates fail": (BAD[4], FULL),
    "the candidate never answers": (GOOD, 0),
}


@many
@given(
    policy=st.sampled_from(POLICIES),
    stretch=st.integers(0, 24),
    looks=st.lists(LOOKS, max_size=20),
    ending=st.sampled_from(sorted(ENDINGS)),
    target=st.sampled_from(NAMES),
)
def test_every_history_ends(policy: Policy, stretch: int, looks: list[Look], ending: str, target: str) -> None:
    body = led(policy, stretch)
    for look in looks:
        body.look(look)
    evidence, ready = ENDINGS[ending]
    wait: float | None = 0.0
    for _ in range(400):
        if wait is None:
            break
        state = body.state or RolloutState()
        answers = {name: ready if name == state.candidate else FULL for name in NAMES}
        look = Look(target, answers, frozenset(), evidence, False, "", wait, "", 0, False)
        before, facts, decision = body.look(look)
        check(before, facts, decision)
        wait = decision.look_seconds
        if decision.state.candidate and (decision.state.paused or decision.state.held is not None) and wait:
            break
    state = body.state or RolloutState()
    assert state.resting or state.paused or state.held is not None
    if state.held is None and not state.paused and ending == "all is well":
        assert state.stable == target or state.rejection is not None


@given(jumps=st.lists(st.sampled_from([1e7, -1e7, 3_600.0]), min_size=1, max_size=3), start=st.integers(0, 4))
def test_no_jump_of_the_clock_is_worth_more_than_a_fifth_of_a_stage(jumps: list[float], start: int) -> None:
    policy = policy_of(spec({"watchFor": "100s"}), weights=True, mirror=True)
    body = Body(policy, first=False)
    good = replace(PLAIN, seconds=0.0)
    while body.state is not None and body.state.phase is not Phase.WATCHING:
        body.look(good)
    for number in range(start + len(jumps)):
        jump = jumps[number - start] if number >= start else 0.0
        body.look(replace(good, seconds=jump))
    assert body.state is not None and body.state.phase is Phase.WATCHING
    assert body.state.healthy <= 20.0 * len(jumps)


@given(looks=st.lists(LOOKS, min_size=5, max_size=40), cut=st.integers(0, 39))
def test_a_restart_that_kept_the_status_changes_nothing(looks: list[Look], cut: int) -> None:
    policy = POLICIES[2]
    straight, restarted = Body(policy, first=False), Body(policy, first=False)
    for number, look in enumerate(looks):
        if number == cut:
            again = Body(policy, first=False)
            again.state = rollout_state(rollout_status(restarted.state)) if restarted.state is not None else None
            again.exist, again.shares = dict(restarted.exist), dict(restarted.shares)
            again.now, again.born = restarted.now, restarted.born
            restarted = again
        assert straight.look(look)[2] == restarted.look(look)[2]
