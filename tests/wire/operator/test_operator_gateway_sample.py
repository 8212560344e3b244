"""The sample with a Gateway, applied as its comments say: routes for HTTP and gRPC, and the first share of a change."""

import asyncio
from collections.abc import AsyncIterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube import ControlPlane, Kind, Obj, kinds
from kube.assets import REPOSITORY
from routed_rollouts import GRPC_ROUTE, HTTP_ROUTE, UNWATCHED, Judge, route_weights

from latentry_operator.runtime.operator import Operator
from latentry_operator.runtime.rollout_evidence import EvidenceReader

SAMPLES = REPOSITORY / "manifests" / "samples"
GATEWAY = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")


def sample(file: Path) -> Obj:
    return dict(yaml.safe_load(file.read_text()))


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    made = Judge()
    monkeypatch.setattr(EvidenceReader, "read", lambda *given: made.read(*given))
    return made


@pytest.fixture
async def gateway(world: Any, control_plane: ControlPlane) -> AsyncIterator[Obj]:
    """The platform team's Gateway, in its namespace."""
    await world.api.create(kinds.namespace, None, {"metadata": {"name": "infra"}})
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", str(SAMPLES / "gateway" / "gateway.yaml"))
    yield await world.api.get(GATEWAY, "infra", "models")
    await world.api.delete(kinds.namespace, None, "infra")


async def test_the_sample_gets_routes_and_shares(operator: Operator, world: Any, gateway: Obj) -> None:
    model = sample(SAMPLES / "encoder-canary.yaml")
    model["metadata"]["namespace"] = world.namespace
    model["spec"]["scaling"]["minReplicas"] = 1  # nobody here does the autoscaler's part
    # Stand-in pods have no taps to judge embeddings and traffic by.
    model["spec"]["rollout"]["gates"] |= UNWATCHED | {"slo": False}
    await world.apply(model)
    old = (await world.complete("reviews"))["status"]["stable"]["revision"]

    (listener,) = gateway["spec"]["listeners"]
    for kind, hostname in (
        (HTTP_ROUTE, "reviews.models.example.com"),
        (GRPC_ROUTE, "reviews-grpc.models.example.com"),
    ):
        route = await world.api.get(kind, world.namespace, "reviews")
        (parent,) = route["spec"]["parentRefs"]
        assert (parent["namespace"], parent["name"], parent["sectionName"]) == ("infra", "models", listener["name"])
        assert route["spec"]["hostnames"] == [hostname]
        assert fnmatch(hostname, listener["hostname"])
        assert kind.name in {one["kind"] for one in listener["allowedRoutes"]["kinds"]}
        assert route_weights(route) == {old: 100}

    model["spec"]["bundle"] = {"uri": "s3://models/reviews/5", "digest": "sha256:" + "5" * 64}
    await world.apply(model)
    found = await world.until("reviews", "Progressing", "True", "Stepping")
    new = found["status"]["candidate"]["revision"]

    async def shared() -> bool:
        routes = [await world.api.get(kind, world.namespace, "reviews") for kind in (HTTP_ROUTE, GRPC_ROUTE)]
        return all(route_weights(route) == {old: 95, new: 5} for route in routes)

    await world.eventually(shared)
