"""What is read off the traffic when memory is lost, and off the taps' documents."""

import pytest
from rollout_world import START, spec

from latentry_operator.api.status import RolloutStatus
from latentry_operator.plan.rollout.facts import (
    Command,
    Histogram,
    RolloutFacts,
    Running,
    Traffic,
    Verb,
    parse_command,
)
from latentry_operator.plan.rollout.machine import advance
from latentry_operator.plan.rollout.policy import policy_of
from latentry_operator.plan.rollout.recover import recover
from latentry_operator.plan.rollout.reports import golden, latency, since, traffic
from latentry_operator.plan.rollout.state import Leaving, Phase
from latentry_operator.status.rollout import rollout_state
from latentry_serving.contract.bundle_report import OperationProbe, ProbesReport
from latentry_serving.contract.metrics import Outcome, ProbeOutcome
from latentry_serving.contract.operations import Operation
from latentry_serving.contract.slis import Figures, Latency, LatencyHistogram, Quantiles, Slis, Summary

POLICY = policy_of(spec({"strategy": "Canary"}), weights=True, mirror=True)
OLD, NEW, NEWER = Running(2, 2, START - 100), Running(2, 2, START), Running(2, 2, START + 100)


def facts(target: str, shares: dict[str, int], command: Command | None = None, **running: Running) -> RolloutFacts:
    return RolloutFacts(target, 2, running, shares, command=command)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (facts("v1", {}), ("", "", Phase.IDLE, 0)),
        (facts("v1", {"v1": 100}, v1=OLD), ("v1", "", Phase.IDLE, 0)),
        (facts("v2", {"v1": 100}, v1=OLD, v2=NEW), ("v1", "", Phase.IDLE, 0)),
        (facts("v2", {"v1": 75, "v2": 25}, v1=OLD, v2=NEW), ("v1", "v2", Phase.STEPPING, 25)),
        (facts("v2", {"v2": 100}, v1=OLD, v2=NEW), ("v1", "v2", Phase.WATCHING, 100)),
        # The newer one is what was cancelled or undone: it must not become the way back.
        (facts("v1", {"v1": 100}, v1=OLD, v2=NEW), ("v1", "", Phase.IDLE, 0)),
        (facts("v1", {"v2": 100}), ("", "", Phase.IDLE, 0)),
    ],
)
def test_memory_is_read_off_the_traffic(given: RolloutFacts, expected: tuple[str, str, Phase, int]) -> None:
    state = recover(given, POLICY, START)
    assert (state.stable, state.candidate, state.phase, state.weight) == expected
    assert dict(advance(None, given, POLICY, START).desired.weights) == {
        name: weight for name, weight in given.traffic.items() if name in given.revisions
    }


def test_of_three_the_one_that_nobody_asks_for_leaves() -> None:
    state = recover(facts("v3", {"v1": 75, "v2": 25}, v1=OLD, v2=NEW, v3=NEWER), POLICY, START)
    assert (state.stable, state.candidate, state.leaving) == ("v1", "", Leaving("v2", 25))


def test_a_command_that_stood_there_is_not_carried_out_again_but_a_pause_stays() -> None:
    undo, pause = Command(Verb.UNDO, "undo:1"), Command(Verb.PAUSE, "pause")
    assert recover(facts("v1", {"v1": 100}, undo, v1=OLD), POLICY, START).command == "undo:1"
    assert recover(facts("v1", {"v1": 100}, pause, v1=OLD), POLICY, START).paused


def test_a_status_of_another_release_counts_as_lost() -> None:
    assert rollout_state(RolloutStatus(phase="Dancing")) is None
    assert rollout_state(None) is None


def test_commands_are_read() -> None:
    assert parse_command("undo:2") == Command(Verb.UNDO, "undo:2")
    assert parse_command("explode") is None


def _slis(**outcomes: int) -> Slis:
    none = Quantiles(p50=None, p90=None, p99=None)
    figures = Figures(
        seconds=60,
        requests=sum(outcomes.values()),
        requests_per_second=1,
        outcomes={Outcome(name): count for name, count in outcomes.items()},
        error_ratio=None,
        request_bytes=0,
        response_bytes=0,
        latency_seconds=none,
        first_response_seconds=none,
    )
    return Slis(
        model="m",
        version="1",
        digest=None,
        uptime_seconds=1,
        connections={},
        opaque_connections={},
        refused_connections={},
        inference=Summary(in_flight=0, total=figures, recent=figures),
        operations=[],
    )


def test_what_clients_did_wrong_is_not_counted() -> None:
    total = traffic([_slis(ok=90, server_error=3, client_error=5), _slis(ok=10, cancelled=2, reset=1)], Histogram())
    assert (total.requests, total.errors) == (104, 4)


def test_counts_begin_with_the_stage_and_a_restarted_tap_owes_nothing() -> None:
    before = Traffic(100, 2, Histogram((0.1, 0.2, 0.4), (60, 38)))
    after = Traffic(150, 3, Histogram((0.1, 0.2, 0.4), (90, 57)))
    assert since(after, before) == Traffic(50, 1, Histogram((0.1, 0.2, 0.4), (30, 19)))
    assert since(Traffic(20, 0), before) == Traffic(20, 0)


def test_latencies_of_replicas_add_up_on_one_grid() -> None:
    def report(edges: list[float], total: list[int]) -> Latency:
        return Latency(inference=LatencyHistogram(edges_seconds=edges, total=total, recent=total), operations=[])

    replicas = [
        report([0.1, 0.2, 0.4], [3, 4]),
        report([0.2, 0.4, 0.8], [5, 6]),
        report([], []),
        report([3.2, 6.4], [1]),
    ]
    assert latency(replicas) == Histogram((0.1, 0.2, 0.4, 0.8, 3.2, 6.4), (3, 9, 6, 0, 1))
    assert latency([]) == Histogram()


def test_the_worst_replica_speaks_for_an_operation() -> None:
    def report(outcome: ProbeOutcome | None) -> ProbesReport:
        probe = OperationProbe(
            operation=Operation.ENCODE,
            outcome=outcome,
            detail="d",
            largest_error=None,
            determinism_error=None,
            last_run_timestamp_seconds=None,
            duration_seconds=None,
            outcomes={},
        )
        return ProbesReport(passed=False, postponed={}, operations=[probe])

    replicas = [report(ProbeOutcome.PASSED), report(ProbeOutcome.NON_FINITE), report(None)]
    assert [fact.result for fact in golden(replicas)] == ["failed"]
    assert [fact.result for fact in golden(replicas[::2])] == ["not run"]
