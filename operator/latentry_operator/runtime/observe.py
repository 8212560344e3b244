"""What is seen of one model: its spec, the revisions that run, where its traffic goes. Reads memory only."""

from collections.abc import Iterable
from dataclasses import dataclass

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import check_resource
from latentry_operator.api.status import LatentModelStatus
from latentry_operator.kube.cache import Cache
from latentry_operator.kube.kinds import DEPLOYMENT, INFERENCE_SERVICE, LATENT_MODEL, SERVICE, Key, Kind
from latentry_operator.kube.records import Child, Owner, Pod, Stored
from latentry_operator.status.facts import RevisionFacts
from latentry_serving.contract.errors import Problem

WORKLOADS = (DEPLOYMENT, INFERENCE_SERVICE)
_PROGRESS_DEADLINE = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Seen:
    """One model as it is.

    Attributes:
        owner: the model as the controller of its objects.
        children: what carries its label, whoever controls it.
        pods: its pods.
        traffic: the revision that its Service sends calls to, empty when there is no Service of ours.
    """

    record: Stored
    owner: Owner
    children: tuple[tuple[Kind, Child], ...]
    pods: tuple[Pod, ...]
    traffic: str

    def revision(self, name: str, wanted: int | None = None) -> RevisionFacts | None:
        """What runs of a revision, None when it has no Deployment.

        Args:
            wanted: replicas that the spec fixes; None where an autoscaler sets them in the Deployment.
        """
        for kind, child in self.children:
            if kind is DEPLOYMENT and child.revision == name:
                return self._facts(name, child, wanted)
        return None

    def problem(self, revision: str) -> str:
        """Why the revision's pods do not run, as far as pods and KServe say."""
        for pod in self.pods:
            if pod.revision == revision and pod.problem:
                return pod.problem
        for kind, child in self.children:
            if kind is INFERENCE_SERVICE and child.revision == revision:
                return _complaint(child)
        return ""

    @property
    def runs(self) -> bool:
        """Whether there is a workload of this model."""
        return any(kind in WORKLOADS and child.owner == self.owner for kind, child in self.children)

    def _facts(self, name: str, deployment: Child, wanted: int | None) -> RevisionFacts:
        status = deployment.status
        stalled = ""
        for condition in status.get("conditions", ()):
            if condition["type"] == "Progressing" and condition.get("reason") == _PROGRESS_DEADLINE:
                stalled = condition.get("message", "the progress deadline has passed")
        return RevisionFacts(
            name=name,
            wanted=wanted if wanted is not None else deployment.replicas or 0,
            current=status.get("observedGeneration", 0) >= deployment.generation,
            replicas=status.get("replicas", 0),
            updated=status.get("updatedReplicas", 0),
            available=status.get("availableReplicas", 0),
            stalled=stalled,
            problem=self.problem(name),
        )


def observe(cache: Cache, record: Stored) -> Seen:
    """Everything known about the model now."""
    owner = Owner(LATENT_MODEL.name, record.key[1], record.uid)
    children = tuple(cache.children(record.key))
    return Seen(record, owner, children, tuple(cache.pods(record.key)), traffic_of(children, owner))


def traffic_of(children: Iterable[tuple[Kind, Child]], owner: Owner) -> str:
    """The revision whose pods the model's Service selects, empty without a Service of the model's own."""
    return next(
        (
            child.selects
            for kind, child in children
            if kind is SERVICE and child.owner == owner and child.key[1] == owner.name
        ),
        "",
    )


def _complaint(service: Child) -> str:
    """KServe's words on an InferenceService that is not ready."""
    failure = service.status.get("modelStatus", {}).get("lastFailureInfo") or {}
    if failure.get("message"):
        return f"{failure.get('reason', 'KServe')}: {failure['message']}"
    for condition in service.status.get("conditions", ()):
        if condition.get("status") == "False" and condition.get("message"):
            return f"{condition['type']}: {condition['message']}"
    return ""


class Specs:
    """Parsed LatentModels, each parsed once per generation."""

    def __init__(self) -> None:
        self._parsed: dict[Key, tuple[str, int, LatentModel | None, list[Problem]]] = {}

    def read(self, record: Stored) -> tuple[LatentModel | None, list[Problem]]:
        """The model with its status, or the spec's problems."""
        known = self._parsed.get(record.key)
        if known is None or known[:2] != (record.uid, record.generation):
            body = {name: value for name, value in record.raw.items() if name != "status"}
            resource, problems = check_resource(body)
            model = resource if isinstance(resource, LatentModel) else None
            known = self._parsed[record.key] = (record.uid, record.generation, model, problems)
        model = known[2]
        if model is None:
            return None, known[3]
        return model.model_copy(update={"status": status_of(record)}), []

    def forget(self, key: Key) -> None:
        """The model is gone."""
        self._parsed.pop(key, None)


def status_of(record: Stored) -> LatentModelStatus:
    """The status as it stands; what an older or newer release wrote and we cannot read counts as none."""
    try:
        return LatentModelStatus.model_validate(record.raw.get("status") or {})
    except ValueError:
        return LatentModelStatus()
