"""The operator on a real API server, as the service account of manifests/operator, in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import yaml
from kube import Api, ControlPlane, Kind, Obj, kinds
from kube.assets import REPOSITORY

from latentry_operator.plan.rollout import clock, traffic
from latentry_operator.runtime.operator import Operator
from latentry_operator.settings import OperatorSettings, load_settings

ROLES = REPOSITORY / "manifests" / "operator"
DIGEST = "sha256:" + "ab" * 32
SYSTEM = "latentry-system"
PATIENCE_S = 90.0
"""For what comes in the end."""


def grant(http: httpx.Client) -> list[str]:
    """The roles that are shipped, bound to the account that the control plane knows as ``operator``; URL paths of what
    was made."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    _apply(http, f"/api/v1/namespaces/{SYSTEM}", namespace)
    plurals = {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
        "Role": "roles",
        "RoleBinding": "rolebindings",
    }
    made: list[str] = []
    for file in ("role.yaml", "role-binding.yaml"):
        for body in yaml.safe_load_all((ROLES / file).read_text()):
            kind, name = body["kind"], body["metadata"]["name"]
            inside = "" if kind.startswith("Cluster") else f"namespaces/{SYSTEM}/"
            made.append(f"/apis/rbac.authorization.k8s.io/v1/{inside}{plurals[kind]}/{name}")
            _apply(http, made[-1], body)
    return made


def _apply(http: httpx.Client, path: str, body: Obj) -> None:
    answer = http.patch(
        path,
        params={"fieldManager": "installer", "force": "true"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        json=body,
    )
    assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def permitted(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with the operator's roles; other folders' tests find its account without them."""
    with control_plane.http() as http:
        made = grant(http)
    yield control_plane
    with control_plane.http() as http:
        for path in made:
            http.delete(path).raise_for_status()


def settings_for(control_plane: ControlPlane, **changes: Any) -> OperatorSettings:
    """Settings of an operator under test."""
    base = {
        "kubeconfig": control_plane.operator_kubeconfig,
        "log_level": "DEBUG",
        "http": {"host": "127.0.0.1", "port": 0},
        "api": {"discovery_seconds": 0.5},
        "leader": {"namespace": SYSTEM},
        # Nobody is there: stand-in pods have no tap, unless a test gives them one.
        "taps": {"every_seconds": 3600},
        "prometheus": {"every_seconds": 3600},
        "cluster": {"prometheus_url": "http://prometheus.monitoring:9090", "dashboard_labels": {}},
    }
    return load_settings(**(base | changes))


@asynccontextmanager
async def acting(settings: OperatorSettings) -> AsyncIterator[Operator]:
    """An operator that runs, and leads, while the context lasts; its end must be an orderly one."""
    operator = Operator(settings)
    task = asyncio.create_task(operator.run())
    try:
        async with asyncio.timeout(60):
            while not operator.leads:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
        yield operator
    finally:
        operator.stop()
        await asyncio.wait_for(task, 60)


@pytest.fixture
def run_operator_on() -> Callable[..., Any]:
    """``run_operator_on(control_plane, **settings)``: a context with a leading operator."""
    return lambda plane, **changes: acting(settings_for(plane, **changes))


@pytest.fixture
def operator_settings(permitted: ControlPlane) -> OperatorSettings:
    """Settings that the ``operator`` fixture runs with."""
    return settings_for(permitted)


@pytest.fixture
async def operator(operator_settings: OperatorSettings) -> AsyncIterator[Operator]:
    """A leading operator for the time of a test."""
    async with acting(operator_settings) as running:
        yield running


AT_ONCE: Obj = {
    "watchFor": "0s",
    "keepFor": "0s",
    "gates": {
        "contract": False,
        "golden": False,
        "compatibility": {"enabled": False},
        "health": {"enabled": False},
        "slo": False,
        "drift": False,
    },
}
"""A rollout for stand-in pods, which have no tap to give evidence: the switch follows readiness."""


@pytest.fixture(autouse=True)
def drained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's calls are in flight to stand-in pods."""
    for module in (clock, traffic):
        monkeypatch.setattr(module, "DRAIN_SECONDS", 0.0)


def latent_model(name: str, **spec: Any) -> Obj:
    """A LatentModel; ``spec`` replaces whole fields of a small encoder's."""
    base = {
        "family": "Encoder",
        "bundle": {"uri": "s3://models/tiny/1", "digest": DIGEST},
        "runtime": {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}},
        "scaling": {"metric": "None"},
        "rollout": AT_ONCE,
    }
    return {
        "apiVersion": "latentry.dev/v1alpha1",
        "kind": "LatentModel",
        "metadata": {"name": name},
        "spec": base | spec,
    }


def condition(obj: Obj | None, kind: str) -> Obj:
    """One condition; an empty one where there is none or it is about an older generation."""
    if obj is None:
        return {}
    for entry in obj.get("status", {}).get("conditions", []):
        if entry["type"] == kind and entry.get("observedGeneration") == obj["metadata"]["generation"]:
            return entry
    return {}


class World:
    """What tests do to LatentModels, and how they wait."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    async def apply(self, model: Obj) -> Obj:
        """As a user's ``kubectl apply --server-side``."""
        return await self.api.apply(kinds.latent_model, self.namespace, model, manager="user")

    async def until(
        self, name: str, kind: str, status: str, reason: str | None = None, seconds: float = PATIENCE_S
    ) -> Obj:
        """Wait until a condition of the newest generation has that status and reason."""

        def holds(obj: Obj | None) -> bool:
            entry = condition(obj, kind)
            return entry.get("status") == status and reason in (None, entry.get("reason"))

        found = await self.api.until_seen(kinds.latent_model, self.namespace, name, holds, seconds)
        assert found is not None
        return found

    async def complete(self, name: str, seconds: float = PATIENCE_S) -> Obj:
        """Wait until the newest spec is what runs."""
        return await self.until(name, "Progressing", "False", "Complete", seconds)

    async def owned(self, kind: Kind) -> list[Obj]:
        """Objects of a kind that a LatentModel controls."""
        items = (await self.api.list(kind, self.namespace))["items"]
        return [
            item
            for item in items
            if any(owner["kind"] == "LatentModel" for owner in item["metadata"].get("ownerReferences", []))
        ]

    async def names(self, kind: Kind) -> list[str]:
        """Names of :meth:`owned`."""
        return sorted(item["metadata"]["name"] for item in await self.owned(kind))

    async def eventually(self, holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_S) -> None:
        """Wait until something asked of the server is true."""
        async with asyncio.timeout(seconds):
            while not await holds():
                await asyncio.sleep(0.05)

    async def events(self) -> dict[str, list[str]]:
        """Reason -> messages of the events about LatentModels."""
        found: dict[str, list[str]] = {}
        for item in (await self.api.list(kinds.event, self.namespace))["items"]:
            if item["involvedObject"]["kind"] == "LatentModel":
                found.setdefault(item["reason"], []).append(item["message"])
        return found

    async def told(self, *reasons: str) -> dict[str, list[str]]:
        """:meth:`events`, once there are some of each of these reasons: they are written beside the status."""
        found: dict[str, list[str]] = {}

        async def all_there() -> bool:
            nonlocal found
            found = await self.events()
            return found.keys() >= set(reasons)

        try:
            await self.eventually(all_there)
        except TimeoutError:
            assert found.keys() >= set(reasons)
        return found


@pytest.fixture
async def world(api: Api, namespace: str) -> AsyncIterator[World]:
    """The test's namespace; it ends empty, since a namespace with pods in it is slow to go."""
    made = World(api, namespace)
    yield made
    for item in (await api.list(kinds.latent_model, namespace))["items"]:
        await api.delete(kinds.latent_model, namespace, item["metadata"]["name"])

    async def empty() -> bool:
        left = [await api.list(kind, namespace) for kind in (kinds.latent_model, kinds.deployment, kinds.pod)]
        return not any(answer["items"] for answer in left)

    await made.eventually(empty)


@pytest.fixture
def make_model() -> Callable[..., Obj]:
    """``make_model(name, **spec)``: a LatentModel."""
    return latent_model


@pytest.fixture
def condition_of() -> Callable[[Obj | None, str], Obj]:
    """``condition_of(obj, type)``: the condition about the newest generation, or an empty one."""
    return condition
