"""``latentry diff``: what the operator would change in a cluster if these files were applied. Writes nothing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.load import load_files
from latentry_operator.api.parse import check_resource
from latentry_operator.api.status import GPUPoolStatus
from latentry_operator.kube.client import Client, ClientSettings
from latentry_operator.kube.connection import Connection
from latentry_operator.kube.diff import Change, preview, unified
from latentry_operator.kube.discovery import served_kinds
from latentry_operator.kube.errors import KubeError
from latentry_operator.kube.kinds import CHILDREN, GPU_POOL, LATENT_MODEL, Key, Kind, Obj
from latentry_operator.kube.records import SELECTOR, ChildReader, Owner, Stored
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.plan.facts import ClusterSettings, PoolFacts
from latentry_operator.render import render
from latentry_operator.render.files import as_yaml
from latentry_operator.runtime.capabilities import capabilities
from latentry_operator.runtime.decide import KINDS, plan_for
from latentry_operator.runtime.observe import Seen, status_of, traffic_of
from latentry_operator.settings import OperatorSettings
from latentry_operator.status.facts import Refusal
from latentry_serving.contract.errors import InvalidInput, OperationFailed


class DiffFailed(OperationFailed):
    """The cluster could not be asked. Not exit code 1, which says that something differs."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class ModelDiff:
    """One LatentModel.

    Attributes:
        changes: of every object that must exist, then of those that would be pruned.
        refusal: why the operator would leave everything as it is, empty otherwise.
    """

    name: str
    changes: tuple[Change, ...] = ()
    refusal: str = ""

    @property
    def differs(self) -> bool:
        """Whether the cluster is not what the file asks for."""
        return bool(self.refusal) or any(change.differs for change in self.changes)

    def text(self) -> str:
        """For people and for ``patch``-like tools; empty without a difference."""
        if self.refusal:
            return f"# LatentModel {self.name}: would wait: {self.refusal}\n"
        return "".join(unified(change, lambda obj: as_yaml([obj], sort_keys=True)) for change in self.changes)


async def diff_files(paths: Sequence[Path], settings: OperatorSettings, namespace: str) -> list[ModelDiff]:
    """Compare every LatentModel of the files with the cluster; GPUPools of the files take the place of the cluster's.

    Objects are shown as they will be in the end: a new revision's creation and the old one's end are one difference.

    Args:
        namespace: of models that name none.

    Raises:
        InvalidInput: the files, or the credentials, are no good.
        DiffFailed: the API server did not answer, or refused a call or an object.
    """
    loaded = load_files(paths)
    models = [_placed(entry, namespace) for entry in loaded if isinstance(entry, LatentModel)]
    if not models:
        files = ", ".join(map(str, paths))
        raise InvalidInput.one(files, path="kind", problem="no LatentModel", remedy="add a file with one")
    connection = Connection(settings.kubeconfig, settings.context, settings.api.connections)
    await connection.open()
    try:
        limits = ClientSettings(timeout=settings.api.timeout_seconds, attempts=2)
        client = Client(connection, limits, lambda *_: None, time.monotonic)
        cluster = await _Cluster.load(client, models, [entry for entry in loaded if isinstance(entry, GPUPool)])
        return [await cluster.compare(model, settings.cluster) for model in models]
    except KubeError as error:
        remedy = "check the kubeconfig, and that you may list and patch what the operator's role names"
        raise DiffFailed(f"{connection.host}: {error}", remedy=remedy) from error
    finally:
        await connection.close()


def _placed(model: LatentModel, namespace: str) -> LatentModel:
    if model.metadata.namespace is not None:
        return model
    return model.model_copy(update={"metadata": model.metadata.model_copy(update={"namespace": namespace})})


class _Cluster:
    """What is there, listed once for all models."""

    def __init__(self, client: Client, served: frozenset[Kind], pools: dict[str, GPUPool]) -> None:
        self._client = client
        self._served = served
        self._pools = pools
        self._in_use: dict[str, dict[str, int]] = defaultdict(dict)
        self._models: dict[Key, Obj] = {}
        self._children: dict[Key, list[tuple[Kind, Obj]]] = defaultdict(list)
        self._read = ChildReader()

    @classmethod
    async def load(cls, client: Client, models: Iterable[LatentModel], pools: Iterable[GPUPool]) -> "_Cluster":
        """Ask for what may matter to these models."""
        served = await served_kinds(client, (LATENT_MODEL, GPU_POOL, *CHILDREN))
        if LATENT_MODEL not in served:
            remedy = "install the chart or manifests/crds first"
            raise DiffFailed("the API server does not know LatentModels", remedy=remedy)
        self = cls(client, served, {})
        for obj in await _all(client, GPU_POOL, None):
            self._take_pool(obj)
        self._pools |= {pool.metadata.name: pool for pool in pools}
        namespaces = sorted({model.metadata.namespace or "" for model in models})
        children = [kind for kind in CHILDREN if kind in served]
        for namespace in namespaces:
            lists = [_all(client, LATENT_MODEL, namespace)]
            lists += [_all(client, kind, namespace, SELECTOR) for kind in children]
            live, *found = await asyncio.gather(*lists)
            self._models |= {(namespace, obj["metadata"]["name"]): obj for obj in live}
            for kind, objects in zip(children, found, strict=True):
                for obj in objects:
                    self._children[namespace, self._read(obj).model].append((kind, obj))
        return self

    def _take_pool(self, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        pool, _ = check_resource({field: value for field, value in obj.items() if field != "status"})
        if isinstance(pool, GPUPool):
            self._pools[name] = pool
            status = GPUPoolStatus.model_validate(obj.get("status") or {})
            self._in_use[name] = {f"{user.namespace}/{user.name}": user.devices for user in status.users}

    async def compare(self, model: LatentModel, settings: ClusterSettings) -> ModelDiff:
        """One model; the devices it would take are taken for the next ones."""
        key = (model.metadata.namespace or "", model.metadata.name)
        seen = self._seen(key)
        model = model.model_copy(update={"status": status_of(seen.record)})
        facts = PoolFacts(self._pools, self._in_use)
        plan = plan_for(seen, model, capabilities(self._served), lambda _: facts, settings)
        if isinstance(plan, Refusal):
            return ModelDiff("/".join(key), refusal=f"{plan.reason}: {plan.message}")
        if pool := model.spec.placement.gpu_pool:
            self._in_use[pool]["/".join(key)] = plan.devices
        return ModelDiff("/".join(key), await self._changes(key, seen, plan))

    def _seen(self, key: Key) -> Seen:
        absent = {"metadata": {"namespace": key[0], "name": key[1], "uid": "", "resourceVersion": "0"}}
        record = Stored(self._models.get(key, absent))
        owner = Owner(LATENT_MODEL.name, key[1], record.uid)
        children = tuple((kind, self._read(obj)) for kind, obj in self._children[key])
        return Seen(record, owner, children, (), traffic_of(children, owner))

    async def _changes(self, key: Key, seen: Seen, plan: ClusterPlan) -> tuple[Change, ...]:
        live = {(kind, obj["metadata"]["name"]): obj for kind, obj in self._children[key]}
        wanted = {(KINDS[obj["apiVersion"], obj["kind"]], obj["metadata"]["name"]): obj for obj in render(plan)}
        calls = (
            preview(self._client, self._read, kind, seen.owner, obj, live.get((kind, name)))
            for (kind, name), obj in wanted.items()
        )
        made = await asyncio.gather(*calls)
        pruned = [
            Change(kind, child.key, live[kind, child.key[1]], None)
            for kind, child in seen.children
            if child.owner == seen.owner and not child.deleting and (kind, child.key[1]) not in wanted
        ]
        return (*made, *pruned)


async def _all(client: Client, kind: Kind, namespace: str | None, selector: str = "") -> list[Obj]:
    """Every object of a kind, with apiVersion and kind, which items of a list lack."""
    items: list[Obj] = []
    start = ""
    while True:
        page = await client.list(kind, namespace, selector, start)
        items += [{"apiVersion": kind.api_version, "kind": kind.name} | item for item in page.get("items") or ()]
        start = page["metadata"].get("continue") or ""
        if not start:
            return items
