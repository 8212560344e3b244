"""Every object rendered of every sample, applied twice: what a GitOps tool, or an operator that starts anew, must see.

Covered: all samples, both workloads, every way to scale, in the API versions that this server has. Nothing else writes
meanwhile: the controllers are paused and nothing stands in for KServe's.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kube import Api, ControlPlane, Obj, kinds
from kube.api import Kind
from samples import SCALINGS, WORKLOADS, models, planned, variant

from latentry_operator.kube.apply import with_owner
from latentry_operator.kube.client import MANAGER, Client, ClientSettings
from latentry_operator.kube.connection import Connection
from latentry_operator.kube.discovery import served_kinds
from latentry_operator.kube.kinds import CHILDREN
from latentry_operator.kube.records import Owner
from latentry_operator.plan.cluster import Capabilities
from latentry_operator.render import render
from latentry_operator.runtime.capabilities import capabilities
from latentry_operator.runtime.decide import KINDS


@pytest.fixture
async def able(control_plane: ControlPlane) -> Capabilities:
    """What this server can do, as the operator finds out."""
    connection = Connection(control_plane.kubeconfig, None, 16)
    await connection.open()
    client = Client(connection, ClientSettings(), lambda *_: None, asyncio.get_running_loop().time)
    served = await served_kinds(client, CHILDREN)
    await connection.close()
    return capabilities(served)


@pytest.fixture
async def still(api: Api) -> AsyncIterator[str]:
    """A namespace that no stand-in looks after."""
    name = f"still-{uuid.uuid4().hex[:8]}"
    await api.create(kinds.namespace, None, {"metadata": {"name": name}})
    yield name
    await api.request("DELETE", kinds.inference_service.path(name))  # before a later test's stand-in can hold them
    await api.delete(kinds.namespace, None, name)


@pytest.mark.parametrize("sample", models())
async def test_applied_again_nothing_changes(
    sample: str, control_plane: ControlPlane, api: Api, still: str, able: Capabilities
) -> None:
    kinds_seen: set[str] = set()
    with control_plane.controllers_paused():
        for workload in WORKLOADS:
            for scaling in (None, *SCALINGS):
                model = variant(sample, workload, scaling)
                model["metadata"]["namespace"] = still
                made = await twice(api, kinds.latent_model, model, "user")
                owner = Owner("LatentModel", made["metadata"]["name"], made["metadata"]["uid"])
                for rendered in render(planned(sample, workload, scaling, able)):
                    wanted = with_owner(rendered, owner)
                    wanted["metadata"] = wanted["metadata"] | {"namespace": still}
                    found = KINDS[wanted["apiVersion"], wanted["kind"]]
                    await twice(api, Kind(found.api_version, found.name, found.plural), wanted, MANAGER)
                    kinds_seen.add(found.name)
    assert {"InferenceService", "ServingRuntime", "Deployment", "Service", "ConfigMap"} <= kinds_seen
    assert {"HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget", "PodMonitor"} <= kinds_seen


async def twice(api: Api, kind: Kind, wanted: Obj, manager: str) -> Obj:
    """Apply, dry and for good once more; all answers must be the first one, and say what was asked for."""

    async def apply(*, dry_run: bool = False) -> Obj:
        return await api.apply(
            kind, wanted["metadata"]["namespace"], wanted, manager=manager, force=True, dry_run=dry_run
        )

    first = await apply()
    place = f"{kind.name} {wanted['metadata']['name']}"
    assert list(flips(wanted, first, place)) == []
    # Whole objects: resourceVersion, generation and managedFields among all else.
    assert await apply(dry_run=True) == first, f"a dry run changes {place}"
    assert await apply() == first, f"a second apply changes {place}"
    return first


def flips(wanted: Any, stored: Any, path: str) -> Iterator[str]:
    """Where the server keeps something else than was sent."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        for name, value in wanted.items():
            if name not in stored:
                yield f"{path}.{name} is not kept"
            else:
                yield from flips(value, stored[name], f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        for index, (one, other) in enumerate(zip(wanted, stored, strict=True)):
            yield from flips(one, other, f"{path}[{index}]")
    elif wanted != stored:
        yield f"{path}: {stored!r} for {wanted!r}"
