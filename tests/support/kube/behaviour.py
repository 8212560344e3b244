"""What a pod of the stand-in does, and the status a kubelet would report for it. Pure."""

from dataclasses import dataclass, replace
from typing import Any, Literal

Obj = dict[str, Any]
ANNOTATION = "testing.latentry.dev/behaviour"
"""On a pod (through its template): one of KINDS, or ``slow=SECONDS``. Wins over the stand-in's script."""

State = Literal["ready", "hang", "crash", "no-image", "no-room"]
KINDS: tuple[State, ...] = ("ready", "hang", "crash", "no-image", "no-room")


@dataclass(frozen=True)
class Behaviour:
    """Where a pod ends, ``after`` seconds from when it was first seen; until then it runs and is not ready."""

    state: State
    after: float = 0.0
    message: str = ""


READY = Behaviour("ready")
HANG = Behaviour("hang")
CRASH = Behaviour("crash", message="back-off 10s restarting failed container")
NO_IMAGE = Behaviour("no-image", message="Back-off pulling image")
NO_ROOM = Behaviour("no-room", message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")


def slow(seconds: float) -> Behaviour:
    """Ready, after that time."""
    return replace(READY, after=seconds)


def parse(text: str) -> Behaviour:
    """The behaviour an annotation names.

    Raises:
        ValueError: it names none.
    """
    if text.startswith("slow="):
        return slow(float(text.removeprefix("slow=")))
    for known in (READY, HANG, CRASH, NO_IMAGE, NO_ROOM):
        if known.state == text:
            return known
    raise ValueError(f"{ANNOTATION}: {text!r} is none of {', '.join(KINDS)}, slow=SECONDS")


def at(behaviour: Behaviour, age: float) -> Behaviour:
    """What it shows at that age, seconds."""
    return behaviour if age >= behaviour.after else HANG


def pod_status(pod: Obj, behaviour: Behaviour, now: str, ip: str = "127.0.0.1") -> Obj:
    """The status for a pod that is in ``behaviour.state``; ``now`` (RFC 3339) becomes the time of its transitions."""
    scheduled = behaviour.state != "no-room"
    ready = behaviour.state == "ready"
    conditions: list[Obj] = [{"type": "PodScheduled", **_truth(scheduled), "lastTransitionTime": now}]
    if not scheduled:
        conditions[0] |= {"reason": "Unschedulable", "message": behaviour.message}
        return {"phase": "Pending", "conditions": conditions, "containerStatuses": None, "initContainerStatuses": None}
    for kind, truth in (("Initialized", True), ("ContainersReady", ready), ("Ready", ready)):
        problem = {} if truth else {"reason": "ContainersNotReady", "message": "containers with unready status"}
        conditions.append({"type": kind, **_truth(truth), "lastTransitionTime": now, **problem})
    spec = pod["spec"]
    return {
        "phase": "Pending" if behaviour.state == "no-image" else "Running",
        "conditions": conditions,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": pod["metadata"]["creationTimestamp"],
        "initContainerStatuses": [_finished(entry, now) for entry in spec.get("initContainers", [])],
        "containerStatuses": [_container(entry, behaviour, now) for entry in spec["containers"]],
    }


def failure(pod: Obj) -> tuple[str, str] | None:
    """(reason, message) of the first container that waits for more than its start, as KServe reads it from a pod."""
    for entry in pod.get("status", {}).get("containerStatuses") or []:
        waiting = entry.get("state", {}).get("waiting")
        if waiting and waiting["reason"] in ("CrashLoopBackOff", "ImagePullBackOff"):
            return waiting["reason"], waiting.get("message", "")
    return None


def _truth(value: bool) -> Obj:
    return {"status": str(value)}


def _finished(container: Obj, now: str) -> Obj:
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    return _base(container) | {"ready": True, "restartCount": 0, "state": state}


def _container(container: Obj, behaviour: Behaviour, now: str) -> Obj:
    if behaviour.state in ("ready", "hang"):
        state: Obj = {"running": {"startedAt": now}}
        return _base(container) | {"ready": behaviour.state == "ready", "restartCount": 0, "state": state}
    reason = "CrashLoopBackOff" if behaviour.state == "crash" else "ImagePullBackOff"
    status = _base(container) | {
        "ready": False,
        "restartCount": 3 if behaviour.state == "crash" else 0,
        "state": {"waiting": {"reason": reason, "message": behaviour.message}},
    }
    if behaviour.state == "crash":
        status["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now}}
    return status


def _base(container: Obj) -> Obj:
    return {"name": container["name"], "image": container.get("image", ""), "imageID": ""}
