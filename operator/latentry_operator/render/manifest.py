"""What every object has: kind, name, namespace, labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from latentry_operator.api.labels import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL, REVISION_LABEL
from latentry_operator.plan.cluster import ClusterPlan

Manifest = dict[str, Any]

_DIGEST_DIGITS = 12


def model_labels(plan: ClusterPlan) -> dict[str, str]:
    """Labels of everything that belongs to the model."""
    return {
        "app.kubernetes.io/name": "latentry",
        "app.kubernetes.io/instance": plan.name,
        "app.kubernetes.io/component": "model-server",
        MANAGED_BY_LABEL: MANAGED_BY,
        MODEL_LABEL: plan.name,
    }


def revision_labels(plan: ClusterPlan) -> dict[str, str]:
    """Labels of everything that belongs to one revision; the version is the start of the bundle's digest."""
    version = plan.digest.removeprefix("sha256:")[:_DIGEST_DIGITS]
    return model_labels(plan) | {"app.kubernetes.io/version": version, REVISION_LABEL: plan.revision}


def selector(plan: ClusterPlan, revision: str | None = None) -> dict[str, str]:
    """Labels that select the model's pods, all of them or one revision's."""
    return {MODEL_LABEL: plan.name} | ({} if revision is None else {REVISION_LABEL: revision})


def model_object(plan: ClusterPlan, api_version: str, kind: str, **sections: Any) -> Manifest:
    """An object named after the model: it stays while revisions come and go."""
    return _object(api_version, kind, plan.name, plan.namespace, model_labels(plan), sections)


def revision_object(plan: ClusterPlan, api_version: str, kind: str, **sections: Any) -> Manifest:
    """An object named after the revision: it comes and goes with it."""
    return _object(api_version, kind, plan.revision, plan.namespace, revision_labels(plan), sections)


def any_revision_object(
    plan: ClusterPlan, revision: str, api_version: str, kind: str, *, name: str, **sections: Any
) -> Manifest:
    """An object that comes and goes with a revision, the plan's or another one, whose version is not known."""
    labels = model_labels(plan) | {REVISION_LABEL: revision}
    return _object(api_version, kind, name, plan.namespace, labels, sections)


def _object(
    api_version: str, kind: str, name: str, namespace: str, labels: Mapping[str, str], sections: Mapping[str, Any]
) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels), **sections.get("metadata", {})}
    rest = {key: value for key, value in sections.items() if key != "metadata"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def plain(value: Any) -> Any:
    """A deep copy as the dicts and lists of JSON, of read-only mappings and tuples too."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def present(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: absent ones are left out, not sent as null or empty."""
    return {key: value for key, value in fields.items() if value is not None and value not in ({}, [])}
