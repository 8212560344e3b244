"""What is kept in memory of each object: enough to decide, not the object. A thousand models fit in a few megabytes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from latentry_operator.api.labels import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL, POOL_LABEL, REVISION_LABEL
from latentry_operator.kube import fields
from latentry_operator.kube.client import MANAGER
from latentry_operator.kube.kinds import DEPLOYMENT, GRPC_ROUTE, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE, Key, Obj
from latentry_operator.kube.store import version_of

SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
"""Selects every child of ours, and what KServe makes of them, since it hands labels down."""

ADMIN_PORT = "admin"
"""Name of the container port that the tap's admin API has."""
_ROUTES = (HTTP_ROUTE.name, GRPC_ROUTE.name)
_SHARED_FIELD_SETS = 4096
_WAITING_IS_NORMAL = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Stored:
    """A LatentModel or GPUPool, whole but for managedFields."""

    raw: Obj

    @property
    def key(self) -> Key:
        return key_of(self.raw)

    @property
    def version(self) -> int:
        return version_of(self.raw["metadata"]["resourceVersion"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.raw["metadata"].get("generation", 0))

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self.raw["metadata"]


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller of an object."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Child:
    """An object that belongs to a model: rendered by us, or made by KServe of one of ours.

    Attributes:
        model: the model's name, from its label.
        revision: from its label, empty where it outlives revisions.
        owner: its controller, None without one.
        owned: the fields we own through server-side apply, ownerReferences left out; empty when none.
        claimed: the fields that others own through server-side apply.
        content: hash of what ``owned`` names.
        generation: of the spec.
        created: when, as the server writes it.
        replicas: of Deployments: as asked for.
        selects: of Services: the revision whose pods get the calls, empty for any.
        shares: of routes: weight by name of the Service.
        status: of workloads, else empty.
    """

    api_version: str
    kind: str
    key: Key
    version: int
    uid: str
    model: str
    revision: str
    owner: Owner | None
    deleting: bool
    owned: fields.Fields
    claimed: fields.Fields
    content: bytes
    generation: int
    replicas: int | None
    selects: str
    status: Mapping[str, Any]
    created: str = ""
    shares: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pod:
    """A serving pod.

    Attributes:
        pool: the GPUPool whose devices it holds, empty on CPU.
        devices: how many of them.
        problem: why it does not run, empty where nothing is known to be wrong.
        admin: host and port of its tap's admin API; None before it has an address and once it is to end.
        ready: whether Services send it calls.
        restarts: of its containers.
    """

    key: Key
    version: int
    model: str
    revision: str
    pool: str
    devices: int
    problem: str
    admin: tuple[str, int] | None = None
    ready: bool = False
    restarts: int = 0


def key_of(obj: Obj) -> Key:
    """(namespace, name)."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def stored(obj: Obj) -> Stored:
    """Record of a LatentModel or GPUPool."""
    obj["metadata"].pop("managedFields", None)
    return Stored(obj)


class ChildReader:
    """Makes records of children; equal sets of fields are kept once, since those of all models are nearly alike."""

    def __init__(self) -> None:
        self._shared: OrderedDict[bytes, fields.Fields] = OrderedDict()

    def __call__(self, obj: Obj) -> Child:
        """The record of a child."""
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        spec = obj.get("spec") or {}
        owned = _without_owners(fields.applied_by(obj, MANAGER))
        return Child(
            api_version=obj["apiVersion"],
            kind=obj["kind"],
            key=key_of(obj),
            version=version_of(metadata["resourceVersion"]),
            uid=metadata["uid"],
            model=labels.get(MODEL_LABEL, ""),
            revision=labels.get(REVISION_LABEL, ""),
            owner=_controller(metadata),
            deleting="deletionTimestamp" in metadata,
            owned=self._share(owned),
            claimed=self._share(fields.applied_by_others(obj, MANAGER)),
            content=fields.fingerprint(obj, owned, only_owned=True) if owned else b"",
            generation=metadata.get("generation", 0),
            replicas=spec.get("replicas") if obj["kind"] == DEPLOYMENT.name else None,
            selects=(spec.get("selector") or {}).get(REVISION_LABEL, "") if obj["kind"] == SERVICE.name else "",
            status=_status(obj),
            created=metadata.get("creationTimestamp", ""),
            shares=_shares(spec) if obj["kind"] in _ROUTES else {},
        )

    def _share(self, owned: fields.Fields) -> fields.Fields:
        key = orjson.dumps(owned, option=orjson.OPT_SORT_KEYS)
        found = self._shared.setdefault(key, owned)
        self._shared.move_to_end(key)
        if len(self._shared) > _SHARED_FIELD_SETS:
            self._shared.popitem(last=False)
        return found


def _controller(metadata: Mapping[str, Any]) -> Owner | None:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return Owner(owner["kind"], owner["name"], owner["uid"])
    return None


def _without_owners(owned: fields.Fields) -> fields.Fields:
    # They name a uid, so they would make every object's set of fields unique.
    if "f:metadata" not in owned:
        return owned
    inner = {name: value for name, value in owned["f:metadata"].items() if name != "f:ownerReferences"}
    return {**owned, "f:metadata": inner}


def _status(obj: Obj) -> Mapping[str, Any]:
    status = obj.get("status") or {}
    if obj["kind"] == DEPLOYMENT.name:
        counts = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        brief = {name: status[name] for name in counts if name in status}
        return brief | {"conditions": [_brief(entry) for entry in status.get("conditions") or ()]}
    if obj["kind"] == INFERENCE_SERVICE.name:
        conditions = [_brief(entry) for entry in status.get("conditions") or () if entry.get("status") != "True"]
        return {"conditions": conditions, "modelStatus": status.get("modelStatus") or {}}
    return {}


def _shares(spec: Mapping[str, Any]) -> dict[str, int]:
    """What the first rule that divides calls says; ours have one rule."""
    for rule in spec.get("rules") or ():
        if backends := rule.get("backendRefs"):
            return {backend["name"]: backend.get("weight", 1) for backend in backends}
    return {}


def _brief(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {name: condition[name] for name in ("type", "status", "reason", "message") if name in condition}


def pod(obj: Obj) -> Pod:
    """Record of a pod; one that has ended holds nothing."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    labels = metadata.get("labels") or {}
    ended = status.get("phase") in ("Succeeded", "Failed")
    leaves = ended or "deletionTimestamp" in metadata
    return Pod(
        key=key_of(obj),
        version=version_of(metadata["resourceVersion"]),
        model=labels.get(MODEL_LABEL, ""),
        revision=labels.get(REVISION_LABEL, ""),
        pool="" if ended else labels.get(POOL_LABEL, ""),
        devices=_devices(obj.get("spec") or {}),
        problem="" if leaves else _problem(status),
        admin=None if leaves else _admin(obj.get("spec") or {}, status),
        ready=not leaves
        and any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        ),
        restarts=sum(int(entry.get("restartCount", 0)) for entry in _containers(status)),
    )


def _admin(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, int] | None:
    if status.get("phase") != "Running" or not status.get("podIP"):
        return None
    ports = (port for entry in spec.get("containers") or () for port in entry.get("ports") or ())
    number = next((port["containerPort"] for port in ports if port.get("name") == ADMIN_PORT), None)
    return None if number is None else (status["podIP"], number)


def _devices(spec: Mapping[str, Any]) -> int:
    # A pool offers one resource, and extended resources have a vendor's domain in their name.
    limits = [(entry.get("resources") or {}).get("limits") or {} for entry in spec.get("containers") or ()]
    return sum(int(amount) for limit in limits for name, amount in limit.items() if "/" in name)


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _problem(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}".rstrip(": ")
    for entry in _containers(status):
        waiting = (entry.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _WAITING_IS_NORMAL:
            return f"container {entry['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""
