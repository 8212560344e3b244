"""From the cluster's objects to the rollout's facts, and commands as annotations."""

from pathlib import Path
from typing import Any

import pytest

from latentry_operator.kube.kinds import DEPLOYMENT, GRPC_ROUTE, HTTP_ROUTE, LATENT_MODEL, SERVICE, Kind, Obj
from latentry_operator.kube.records import ChildReader, Owner, Stored
from latentry_operator.kube.rollout_command import again
from latentry_operator.plan.rollout.facts import Verb
from latentry_operator.rollout_cli import target
from latentry_operator.runtime.observe import Seen, traffic_of
from latentry_operator.runtime.rollout import command, traffic
from latentry_serving.contract.errors import InvalidInput

OWNER = Owner(LATENT_MODEL.name, "tiny", "uid-1")


def child(kind: Kind, name: str, spec: Obj, owner: Owner = OWNER, revision: str = "") -> tuple[Kind, Any]:
    labels = {"latentry.dev/model": "tiny"} | ({"latentry.dev/revision": revision} if revision else {})
    reference = {"kind": owner.kind, "name": owner.name, "uid": owner.uid, "controller": True}
    metadata = {
        "name": name,
        "namespace": "demo",
        "uid": name,
        "resourceVersion": "1",
        "labels": labels,
        "ownerReferences": [reference],
    }
    return kind, ChildReader()({"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec})


def service(name: str, revision: str) -> tuple[Kind, Any]:
    return child(SERVICE, name, {"selector": {"latentry.dev/revision": revision}})


def route(kind: Kind, owner: Owner = OWNER, **weights: int) -> tuple[Kind, Any]:
    backends = [{"name": f"tiny-{name}-route", "weight": weight} for name, weight in weights.items()]
    return child(kind, "tiny", {"rules": [{"filters": [], "backendRefs": backends}]}, owner)


def seen(*children: tuple[Kind, Any], annotation: str | None = None) -> Seen:
    annotations = {} if annotation is None else {"annotations": {"latentry.dev/rollout": annotation}}
    raw = {"metadata": {"name": "tiny", "namespace": "demo", "uid": "uid-1", "resourceVersion": "1", **annotations}}
    return Seen(Stored(raw), OWNER, children, (), traffic_of(children, OWNER))


def test_the_services_of_revisions_are_not_the_models() -> None:
    found = seen(service("tiny-b-route", "tiny-b"), service("tiny", "tiny-a"))
    assert traffic(found) == {"tiny-a": 100}


def test_the_larger_share_of_routes_and_service_counts() -> None:
    found = seen(service("tiny", "tiny-a"), route(HTTP_ROUTE, a=95, b=5), route(GRPC_ROUTE, a=90, b=10))
    assert traffic(found) == {"tiny-a": 100, "tiny-b": 10}


@pytest.mark.parametrize(
    ("weights", "shares"), [({"a": 1, "b": 3}, {"tiny-a": 25, "tiny-b": 75}), ({"a": 0, "b": 0}, {})]
)
def test_weights_that_somebody_wrote_are_shares(weights: dict[str, int], shares: dict[str, int]) -> None:
    assert traffic(seen(route(HTTP_ROUTE, **weights))) == shares


def test_a_small_share_is_never_none() -> None:
    assert traffic(seen(route(HTTP_ROUTE, a=999, b=1)))["tiny-b"] == 1


def test_routes_of_others_say_nothing() -> None:
    other = Owner(LATENT_MODEL.name, "tiny", "uid-0")
    assert traffic(seen(route(HTTP_ROUTE, other, a=50, b=50))) == {}
    assert traffic(seen(child(DEPLOYMENT, "tiny-a", {"replicas": 1}, revision="tiny-a"))) == {}


@pytest.mark.parametrize(
    ("text", "verb"), [("undo", Verb.UNDO), ("pause:2", Verb.PAUSE), ("explode", None), (None, None)]
)
def test_commands(text: str | None, verb: Verb | None) -> None:
    found = command(seen(annotation=text))
    assert (found.verb if found is not None else None) == verb


def test_the_same_command_again_is_another_text() -> None:
    assert again(Verb.UNDO, "", "") == "undo"
    assert again(Verb.UNDO, "undo", "undo") == "undo:2"
    assert again(Verb.PAUSE, "", "resume:4") == "pause:5"
    assert again(Verb.PAUSE, "resume:by-hand", "") == "pause:2"


def test_without_a_latentry_up_the_cluster_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none: there is no such file"):
        target("tiny", tmp_path, kubeconfig=tmp_path / "none").status()


def test_a_flag_wins_over_the_operators_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTRY_OPERATOR_KUBECONFIG", str(tmp_path / "operators"))
    with pytest.raises(InvalidInput, match="mine: there is no such file"):
        target("tiny", tmp_path, kubeconfig=tmp_path / "mine").status()
