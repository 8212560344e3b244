"""Who uses which GPUPool's devices: what pods hold, and what models were promised whose pods are not there yet."""

from collections.abc import Iterable, Mapping

from latentry_operator.kube.kinds import Key


class PoolLedger:
    """Promises, in memory. They are derived again from what runs whenever a process starts to lead."""

    def __init__(self) -> None:
        self._promises: dict[Key, tuple[str, int]] = {}
        self._by_pool: dict[str, dict[Key, int]] = {}

    def promise(self, model: Key, pool: str, devices: int) -> set[str]:
        """From now on ``devices`` of ``pool`` are the model's. Answers the pools whose use that changed."""
        if self._promises.get(model) == (pool, devices):
            return set()
        changed = self.release(model)
        self._promises[model] = (pool, devices)
        self._by_pool.setdefault(pool, {})[model] = devices
        return changed | {pool}

    def release(self, model: Key) -> set[str]:
        """The model needs no device any more. Answers the pools whose use that changed."""
        pool, _ = self._promises.pop(model, ("", 0))
        if not pool:
            return set()
        del self._by_pool[pool][model]
        return {pool}

    def clear(self) -> None:
        """Forget every promise."""
        self._promises.clear()
        self._by_pool.clear()

    def in_use(self, pool: str, held: Mapping[Key, int]) -> dict[str, int]:
        """``namespace/name`` -> devices of the pool that are the model's: held by pods, or promised if that is more."""
        promised = self._by_pool.get(pool, {})
        models: Iterable[Key] = {**promised, **held}
        return {"/".join(model): max(promised.get(model, 0), held.get(model, 0)) for model in models}
