"""Histories of rollouts, each from a quiet v1 (or from nothing): what was deployed, what went wrong, when."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rollout_world import (
    AS_GOOD,
    ROTATED,
    TOO_SLOW,
    TWICE_AS_SLOW,
    UNRELATED,
    WORSE,
    Behaviour,
    World,
    becomes,
    forget,
    jump,
    say,
    spec,
    stop,
    to,
    users,
)

from latentry_operator.plan.rollout.facts import Answer, ContractChange, Judging, Latent, MonitorFacts, ProbeResult

BLUE_GREEN: dict[str, Any] = {"keepFor": "10m"}
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "for": "2m"}, {"weight": 50, "for": "5m"}],
    "watchFor": "2m",
    "keepFor": "10m",
}
IN_A_NEW_SPACE = replace(UNRELATED, reconstruction=AS_GOOD)
COLLAPSED_PAIRS = replace(UNRELATED, reconstruction=WORSE)
HOLD = {"onFailure": "Hold"}
RENAMED = ContractChange("operations.encode.outputs.latent", True, "clients read it; it was removed or renamed")
COLLAPSED = MonitorFacts(
    Judging.ON, sufficient=True, unhealthy={"posterior": "KL 0.02 nats where 3.17 are expected: collapsed"}
)
DRIFTED = MonitorFacts(Judging.ON, sufficient=True, alarms={"embedding/spe": "embedding leaves its subspace"})
RECALL = {"promql": [{"name": "recall", "query": 'recall{revision="$revision"}', "min": 0.9}]}
START = (10.0, to("v2"))


def tell(
    rollout: dict[str, Any],
    *script: tuple[float, Callable[[World], None]],
    stable: str = "v1",
    rate: float = 20.0,
    until: float = 6 * 3_600,
    v1: dict[str, Any] | None = None,
    **v2: Any,
) -> str:
    """Plays a history; ``v2`` says how the candidate is."""
    behaviours = {"v1": Behaviour(**(v1 or {})), "v2": Behaviour(**v2), "v3": Behaviour(), "v4": Behaviour()}
    world = World(spec(rollout), behaviours, stable=stable)
    world.rate = rate
    return world.run(script, until).transcript()


def _gone_wrong(what: str, at: float, **how: Any) -> tuple[float, Callable[[World], None]]:
    return at, becomes("v2", what, **how)


HISTORIES: dict[str, Callable[[], str]] = {
    # All is well.
    "first-deployment": lambda: tell(BLUE_GREEN, (10, to("v1")), stable=""),
    "blue-green-healthy": lambda: tell(BLUE_GREEN, START),
    "canary-healthy": lambda: tell(CANARY, START),
    "canary-to-100-in-steps": lambda: tell(
        CANARY | {"steps": [{"weight": 50, "for": "1m"}, {"weight": 100, "for": "1m"}]}, START
    ),
    "switch-without-watch": lambda: tell({"watchFor": "0s", "keepFor": "0s"}, START),
    "shadow-then-canary": lambda: tell(CANARY | {"shadow": {"for": "3m"}}, START),
    "new-space-declared": lambda: tell(BLUE_GREEN, START, space="digits-b", pairs=IN_A_NEW_SPACE),
    "new-space-with-a-smaller-latent": lambda: tell(
        CANARY, START, space="digits-b", pairs=IN_A_NEW_SPACE, latent=Latent(4, 4, True)
    ),
    # Each gate fails, at each place.
    "contract-broken": lambda: tell(CANARY, START, changes=(RENAMED,)),
    "golden-missed": lambda: tell(CANARY, START, golden=ProbeResult.FAILED),
    "golden-missed-first-deployment": lambda: tell(
        BLUE_GREEN,
        (10, to("v2")),
        (300, becomes("v2", "gives the recorded outputs", golden=ProbeResult.PASSED)),
        stable="",
        golden=ProbeResult.FAILED,
    ),
    "space-rotated": lambda: tell(CANARY, START, until=1_800, pairs=ROTATED),
    "space-rotated-promoted-by-hand": lambda: tell(CANARY, START, (600, say("promote")), pairs=ROTATED),
    "space-unrelated-aborted": lambda: tell(BLUE_GREEN, START, (600, say("abort")), pairs=UNRELATED),
    "bundle-refused": lambda: tell(CANARY, START, refused="the digest is sha256:bad, sha256:good is promised"),
    "never-ready": lambda: tell(CANARY, START, never_ready="CrashLoopBackOff: model encode failed to load"),
    "errors-at-step-1": lambda: tell(CANARY, START, errors=0.2),
    "errors-at-step-2": lambda: tell(CANARY, START, _gone_wrong("fails 5 %", 500, errors=0.05)),
    "errors-after-the-switch": lambda: tell(CANARY, START, _gone_wrong("fails 5 %", 750, errors=0.05)),
    "errors-blue-green": lambda: tell(BLUE_GREEN, START, _gone_wrong("fails 2 %", 60, errors=0.02)),
    "slow-at-step-1": lambda: tell(CANARY, START, latency=TOO_SLOW),
    "slow-blue-green": lambda: tell(BLUE_GREEN, START, latency=TOO_SLOW),
    "slower-than-stable-within-the-objective": lambda: tell(CANARY, START, latency=TWICE_AS_SLOW),
    "drift-at-step-1": lambda: tell(CANARY, START, monitor=DRIFTED),
    "drift-shared-with-stable": lambda: tell(CANARY, START, v1={"monitor": DRIFTED}, monitor=DRIFTED),
    "collapsed-in-a-new-space-blue-green": lambda: tell(
        BLUE_GREEN, START, space="digits-b", pairs=COLLAPSED_PAIRS, latent=Latent(16, 0, True)
    ),
    "collapsed-in-a-new-space-canary": lambda: tell(
        CANARY, START, space="digits-b", pairs=COLLAPSED_PAIRS, latent=Latent(16, 0, True)
    ),
    "half-collapsed-in-a-new-space": lambda: tell(
        BLUE_GREEN, START, space="digits-b", pairs=None, latent=Latent(16, 3, True)
    ),
    "reconstructs-worse-without-a-profile": lambda: tell(
        BLUE_GREEN, START, v1={"latent": None}, space="digits-b", pairs=COLLAPSED_PAIRS, latent=None
    ),
    "reconstructs-worse-held": lambda: tell(
        BLUE_GREEN | HOLD, START, until=900, space="digits-b", pairs=COLLAPSED_PAIRS, latent=None
    ),
    "collapsed-at-step-1": lambda: tell(CANARY, START, monitor=COLLAPSED),
    "collapse-seen-at-step-2": lambda: tell(CANARY, START, _gone_wrong("collapses", 500, monitor=COLLAPSED)),
    "crashes-under-load": lambda: tell(CANARY, START, _gone_wrong("is killed for memory", 500, restarts=3)),
    "lost-at-step-2": lambda: tell(CANARY, START, _gone_wrong("all replicas are gone", 500, lost=True)),
    "promql-out-of-bounds": lambda: tell(
        CANARY | {"gates": RECALL},
        START,
        _gone_wrong("recall falls", 500, answers={"recall": Answer(0.71, 10)}),
        answers={"recall": Answer(0.97, 10)},
    ),
    "promql-without-data": lambda: tell(CANARY | {"gates": RECALL, "analysis": {"longestWait": "10m"}}, START),
    # Hold in place of rollback.
    "hold-errors-then-resumed-when-mended": lambda: tell(
        CANARY | HOLD,
        START,
        _gone_wrong("fails 5 %", 500, errors=0.05),
        _gone_wrong("is mended", 700, errors=0.0),
        (760, say("resume")),
    ),
    "hold-lost-keeps-no-share": lambda: tell(
        CANARY | HOLD, START, _gone_wrong("all replicas are gone", 500, lost=True), until=1_200
    ),
    "hold-never-ready": lambda: tell(CANARY | HOLD | {"deadline": "5m"}, START, until=900, never_ready="ImagePull"),
    # Too little evidence.
    "no-traffic": lambda: tell(BLUE_GREEN | {"analysis": {"longestWait": "10m"}}, START, rate=0.0, until=2_400),
    "no-traffic-asked-for": lambda: tell(BLUE_GREEN | {"analysis": {"minRequests": 0}}, START, rate=0.0),
    "traffic-comes-late": lambda: tell(
        BLUE_GREEN | {"analysis": {"longestWait": "10m"}},
        START,
        (1_500, users(20.0)),
        rate=0.0,
    ),
    "pairs-come-late": lambda: tell(
        CANARY, START, (200, becomes("v2", "pairs are there", pairs=Behaviour().pairs)), pairs=None
    ),
    # People.
    "paused-and-resumed": lambda: tell(CANARY, START, (100, say("pause")), (2_000, say("resume"))),
    "paused-still-rolls-back": lambda: tell(
        CANARY, START, (100, say("pause")), _gone_wrong("fails 20 %", 200, errors=0.2), until=3_600
    ),
    "aborted-and-retried": lambda: tell(CANARY, START, (100, say("abort")), (300, say("retry"))),
    "promoted-by-hand": lambda: tell(CANARY, START, (100, say("promote"))),
    "undone": lambda: tell(BLUE_GREEN, START, (600, say("undo"))),
    "undone-too-late": lambda: tell(BLUE_GREEN, START, (2_000, say("undo"))),
    "undo-in-the-middle": lambda: tell(CANARY, START, (300, say("undo"))),
    "commands-without-effect": lambda: tell(BLUE_GREEN, (10, say("resume")), (20, say("promote")), (30, say("retry"))),
    # The spec changes.
    "spec-back-in-the-middle": lambda: tell(CANARY, START, (300, to("v1"))),
    "spec-back-while-kept": lambda: tell(BLUE_GREEN, START, (600, to("v1"))),
    "spec-changed-twice": lambda: tell(CANARY, START, (300, to("v3")), (320, to("v4"))),
    "spec-changed-while-preparing": lambda: tell(CANARY, START, (15, to("v3"))),
    "mended-by-a-new-spec": lambda: tell(CANARY, START, (300, to("v3")), errors=0.5),
    "rejected-is-not-retried": lambda: tell(CANARY, START, (2_000, to("v1")), (2_100, to("v2")), errors=0.5),
    # The stable revision breaks.
    "rollback-target-broken-then-back": lambda: tell(
        BLUE_GREEN,
        START,
        (100, becomes("v1", "all replicas are gone", lost=True)),
        _gone_wrong("fails 20 %", 110, errors=0.2),
        (400, becomes("v1", "answers again", lost=False)),
    ),
    "rollback-target-broken-mended-by-a-new-spec": lambda: tell(
        BLUE_GREEN,
        START,
        (100, becomes("v1", "all replicas are gone", lost=True)),
        _gone_wrong("fails 20 %", 110, errors=0.2),
        (400, to("v3")),
    ),
    "stable-lost-at-step-1": lambda: tell(
        CANARY,
        START,
        (100, becomes("v1", "all replicas are gone", lost=True)),
        (160, becomes("v1", "answers again", lost=False)),
    ),
    "stable-broken-mended-by-a-new-spec": lambda: tell(CANARY, (5, becomes("v1", "is gone", lost=True)), START),
    "promoted-then-lost-while-kept": lambda: tell(
        BLUE_GREEN, START, _gone_wrong("all replicas are gone", 600, lost=True), (700, to("v3")), until=3_600
    ),
    # Restarts, crashes, clocks.
    "operator-down-in-the-middle": lambda: tell(CANARY, START, (100, stop(3_600))),
    "status-lost-at-step-2": lambda: tell(CANARY, START, (500, forget)),
    "status-lost-after-the-switch": lambda: tell(BLUE_GREEN, START, (200, forget)),
    "status-lost-while-idle": lambda: tell(BLUE_GREEN, (10, forget)),
    "clock-jumps-forward": lambda: tell(CANARY, START, (60, jump(86_400))),
    "clock-jumps-back": lambda: tell(CANARY, START, (60, jump(-86_400))),
    "flapping-single-replica": lambda: tell(
        CANARY, START, (60, becomes("v2", "flaps", lost=True)), (70, becomes("v2", "answers again", lost=False))
    ),
    "flapping-replicas": lambda: tell(
        {"deadline": "3m", "keepFor": "0s"},
        START,
        *[
            (at, becomes("v2", f"{1 + number % 2} of 2 replicas answer", missing=1 - number % 2))
            for number, at in enumerate(range(60, 420, 60))
        ],
    ),
}
