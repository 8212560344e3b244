"""GPUPools: what the planner is told of them, which models wait for one, and their status."""

from collections.abc import Callable, Mapping
from datetime import datetime

from latentry_operator.api import defaults
from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import check_resource
from latentry_operator.api.status import GPUPoolStatus
from latentry_operator.kube.cache import Cache
from latentry_operator.kube.client import Client
from latentry_operator.kube.kinds import GPU_POOL, Key
from latentry_operator.kube.records import Stored
from latentry_operator.kube.status import write_status
from latentry_operator.plan.facts import PoolFacts
from latentry_operator.runtime.ledger import PoolLedger
from latentry_operator.status.pool import pool_status
from latentry_serving.contract.errors import Problem

USE_SECONDS = 0.5
"""How long changes of a pool's use are gathered before its status is written."""


class Pools:
    """Pools and the models that use them.

    Args:
        changed: told of a pool whose use changed.
        look_again: told of a model whose pool may have devices for it now.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        *,
        now: Callable[[], datetime],
        changed: Callable[[str], None],
        look_again: Callable[[Key], None],
    ) -> None:
        self._client = client
        self._cache = cache
        self._now = now
        self._changed = changed
        self._look_again = look_again
        self._ledger = PoolLedger()
        self._waiting: dict[Key, str] = {}
        self._users: dict[Key, str] = {}
        self._parsed: dict[str, tuple[str, int, GPUPool | None, list[Problem]]] = {}
        self._spec_seen: dict[str, tuple[str, int] | None] = {}

    def facts(self, name: str) -> PoolFacts:
        """What the planner needs to place a model on the pool of that name."""
        if not name:
            return PoolFacts()
        pools = {record.key[1]: pool for record in self._cache.pools if (pool := self._read(record)[0]) is not None}
        return PoolFacts(pools=pools, in_use={name: self._in_use(name)})

    def settle(self, key: Key, model: LatentModel, devices: int | None, runs: bool) -> None:
        """A model was planned with so many devices, or has to wait (None); ``runs`` keeps the promise of what runs."""
        pool = model.spec.placement.gpu_pool or ""
        self._users[key] = pool
        if devices is None:
            self._waiting[key] = pool
            if not runs:
                self._tell(self._ledger.release(key))
            return
        self._waiting.pop(key, None)
        self._tell(self._ledger.promise(key, pool, devices) if pool else self._ledger.release(key))

    def promise_running(self, key: Key, model: LatentModel) -> None:
        """What runs already holds its devices."""
        if pool := model.spec.placement.gpu_pool:
            devices = defaults.gpus(model.spec.placement) * model.spec.scaling.min_replicas
            self._tell(self._ledger.promise(key, pool, devices))

    def release(self, key: Key) -> None:
        """The model is gone."""
        self._waiting.pop(key, None)
        self._users.pop(key, None)
        self._tell(self._ledger.release(key))

    def restart(self) -> None:
        """Forget promises: another process may have led meanwhile."""
        self._ledger.clear()
        self._waiting.clear()
        self._spec_seen.clear()

    async def reconcile(self, name: str) -> float | None:
        """Wake the models that wait for the pool, or all that use it when its spec changed; write its status.

        Raises:
            KubeError: a call did not succeed; to be repeated.
        """
        record = self._cache.pools.get(("", name))
        spec = (record.uid, record.generation) if record is not None else None
        same = self._spec_seen.get(name) == spec and name in self._spec_seen
        self._spec_seen[name] = spec
        for key, pool in list((self._waiting if same else self._users).items()):
            if pool == name:
                self._look_again(key)
        if record is None:
            self._parsed.pop(name, None)
            return None
        parsed, problems = self._read(record)
        before = GPUPoolStatus.model_validate(record.raw.get("status") or {})
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = pool_status(record.generation, parsed, problems, self._in_use(name), before, stamp)
        await write_status(self._client, self._cache.pools, GPU_POOL, record, status.to_dict())
        return None

    def _in_use(self, name: str) -> Mapping[str, int]:
        return self._ledger.in_use(name, self._cache.held(name))

    def _tell(self, pools: set[str]) -> None:
        for pool in pools:
            self._changed(pool)

    def _read(self, record: Stored) -> tuple[GPUPool | None, list[Problem]]:
        name = record.key[1]
        known = self._parsed.get(name)
        if known is None or known[:2] != (record.uid, record.generation):
            body = {field: value for field, value in record.raw.items() if field != "status"}
            resource, problems = check_resource(body)
            pool = resource if isinstance(resource, GPUPool) else None
            known = self._parsed[name] = (record.uid, record.generation, pool, problems)
        return known[2], known[3]
