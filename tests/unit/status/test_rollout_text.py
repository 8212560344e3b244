"""A LatentModel's rollout as text: who has the traffic, where it stands, the gates, and what else is wrong."""

from typing import Any

from latentry_operator.status.text import story

GATE = {"gate": "golden", "verdict": "Fail", "reason": "GoldenMissed", "message": "3 of 8 values are off"}
STABLE = {"revision": "tiny-a", "version": "7", "readyReplicas": 2}
CANDIDATE = {"revision": "tiny-b", "readyReplicas": 1, "weight": 5, "verdicts": [GATE]}


def model(generation: int = 1, **status: Any) -> dict[str, Any]:
    stepping = {"type": "Progressing", "status": "True", "reason": "Stepping", "message": "at 5 %"}
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": 1, "stable": STABLE, "conditions": [stepping]} | status,
    }


def rollout(**changes: Any) -> dict[str, Any]:
    return {"phase": "Stepping", "stable": "tiny-a", "candidate": "tiny-b", "weight": 5} | changes


def test_both_revisions_have_their_shares() -> None:
    assert story(model(candidate=CANDIDATE, rollout=rollout(previous="tiny-0"))).splitlines() == [
        "stable     tiny-a, version 7, 95 % of the traffic, 2 replicas ready",
        "candidate  tiny-b, version not told yet, 5 % of the traffic, 1 replica ready",
        "previous   tiny-0, kept for an undo",
        "state      Stepping: at 5 %",
        "gate       golden Fail (GoldenMissed): 3 of 8 values are off",
    ]


def test_who_helps_out_or_cannot_leave_yet_is_told() -> None:
    relieved = story(model(rollout=rollout(candidate=None, weight=0, previous="tiny-0", relief="tiny-0")))
    assert "stable     tiny-a, version 7, 0 % of the traffic, 2 replicas ready" in relieved
    assert "previous   tiny-0, 100 % of the traffic, kept for an undo" in relieved
    stuck = story(model(rollout=rollout(candidate=None, weight=0, leaving="tiny-b", leavingWeight=100)))
    assert "leaving    tiny-b, 100 % of the traffic" in stuck


def test_what_else_is_wrong_is_noted() -> None:
    conditions = [
        {"type": "Accepted", "status": "False", "reason": "Invalid", "message": "spec.family: no such family"},
        {"type": "Available", "status": "True", "reason": "Ready", "message": "2 of 2 replicas are ready"},
    ]
    assert story(model(3, conditions=conditions)).splitlines()[1:] == [
        "note       the spec is of generation 3, the operator has looked at 1",
        "note       Accepted is False (Invalid): spec.family: no such family",
    ]


def test_before_the_first_look_and_in_words_of_another_release() -> None:
    assert story({"metadata": {"generation": 1}}) == "the operator has not looked at it yet"
    assert "tiny-a, version 7" in story(model(rollout=rollout(phase="Levitating", weight="heavy")))
