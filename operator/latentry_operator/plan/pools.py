"""GPU pools: which devices a model gets, whether it fits into one of them, and whether enough are left."""

from dataclasses import dataclass

from latentry_operator.api import defaults
from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.plan.facts import ClusterSettings, PoolFacts
from latentry_operator.plan.outcome import PodPlacement, Waiting, WaitingReason
from latentry_serving.contract.units import ByteSize

_CPU = PodPlacement(node_selector={}, tolerations=(), devices={}, runtime_class_name=None)


@dataclass(frozen=True, slots=True)
class Placed:
    """A model that fits.

    Attributes:
        placement: where its pods run.
        most_replicas: as many as the pool has devices for, never less than run or than minReplicas; None: no limit.
    """

    placement: PodPlacement
    most_replicas: int | None


def place(model: LatentModel, revision: str, facts: PoolFacts, settings: ClusterSettings) -> Placed | Waiting:
    """Finds the devices of a model's revision. A model without a pool runs on CPU and always fits."""
    name = model.spec.placement.gpu_pool
    if name is None:
        return Placed(_CPU, None)
    pool = facts.pools.get(name)
    if pool is None:
        return _not_found(name, facts)
    gpus, stable = defaults.gpus(model.spec.placement), model.status.stable
    # A revision that serves has shown that it fits, whatever the estimate says.
    serves = stable is not None and stable.revision == revision and stable.ready_replicas > 0
    if too_small := _one_device_suffices(pool, gpus) or ("" if serves else _memory(model, pool, settings)):
        return Waiting(WaitingReason.GPU_POOL_TOO_SMALL, too_small)
    placement = PodPlacement(
        node_selector=pool.spec.node_selector,
        tolerations=pool.spec.tolerations,
        devices={pool.spec.resource_name: gpus},
        runtime_class_name=pool.spec.runtime_class_name,
    )
    return _replicas(model, pool, facts, placement)


def _not_found(name: str, facts: PoolFacts) -> Waiting:
    have = ", ".join(sorted(facts.pools)) or "none"
    return Waiting(
        WaitingReason.GPU_POOL_NOT_FOUND,
        f"placement.gpuPool: there is no GPUPool {name}, the cluster has {have};"
        " create it, or name one of these, or remove placement to run on CPU",
    )


def _one_device_suffices(pool: GPUPool, gpus: int) -> str:
    """CUDA shows a process one MIG slice at most, and two shares of one GPU are still that GPU.

    Source: NVIDIA MIG user guide, "CUDA Device Enumeration"; NVIDIA k8s-device-plugin, "Shared Access to GPUs".
    """
    if gpus == 1 or not pool.spec.divided:
        return ""
    return (
        f"placement.gpus: {gpus}, but one process can use only one {pool.spec.resource_name} of pool"
        f" {pool.metadata.name}; write gpus: 1 and more replicas, or choose a pool of larger devices"
    )


def needed_memory(model: LatentModel, settings: ClusterSettings) -> ByteSize | None:
    """Device memory that a replica needs on each of its devices; None while the bundle's size is unknown.

    Triton's instances each load their own copy of the graphs, on every device, and work on one batch at a time:
    ``overhead + instances * (bundle + maxBatchSize * memoryPerSample)``. A lower bound: the bundle's files are its
    weights, and working memory counts only where the spec tells it.
    """
    spec, stable = model.spec, model.status.stable
    known = stable.bundle_bytes if stable is not None and stable.digest == spec.bundle.digest else None
    size = known if known is not None else spec.bundle.size
    if size is None:
        return None
    sample = spec.placement.memory_per_sample or ByteSize(0)
    batch = spec.runtime.max_batch_size * sample.count
    return ByteSize(settings.device_overhead.count + spec.runtime.instances * (size.count + batch))


def _memory(model: LatentModel, pool: GPUPool, settings: ClusterSettings) -> str:
    needed, have = needed_memory(model, settings), pool.spec.memory_per_device
    if needed is None or needed <= have:
        return ""
    runtime = model.spec.runtime
    return (
        f"placement.gpuPool: {runtime.instances} instances with batches of {runtime.max_batch_size} need"
        f" {_gib(needed)}, of which {_gib(settings.device_overhead)} for CUDA and Triton, on each device; a device of"
        f" pool {pool.metadata.name} has {_gib(have)}; lower runtime.instances or runtime.maxBatchSize,"
        " or choose a pool with more memory"
    )


def _replicas(model: LatentModel, pool: GPUPool, facts: PoolFacts, placement: PodPlacement) -> Placed | Waiting:
    most = pool.spec.max_devices
    if most is None:
        return Placed(placement, None)
    name, gpus, least = pool.metadata.name, sum(placement.devices.values()), model.spec.scaling.min_replicas
    needed = least * gpus
    if needed > most:
        return Waiting(
            WaitingReason.GPU_POOL_TOO_SMALL,
            f"scaling.minReplicas: {least} replicas of {gpus} devices need {needed}, pool {name} may use {most};"
            " lower minReplicas or raise the pool's maxDevices",
        )
    in_use = dict(facts.in_use.get(name, {}))
    own = in_use.pop(f"{model.metadata.namespace or 'default'}/{model.metadata.name}", 0)
    free = most - sum(in_use.values())
    if needed > max(free, own):
        users = ", ".join(f"{user} {devices}" for user, devices in sorted(in_use.items(), key=lambda use: -use[1])[:5])
        return Waiting(
            WaitingReason.GPU_POOL_USED_UP,
            f"scaling.minReplicas: {least} replicas of {gpus} devices need {needed}, of pool {name}'s {most} devices"
            f" {max(free, 0)} are left (in use by others: {users}); scale one of these down, raise the pool's"
            " maxDevices, or choose another pool",
        )
    return Placed(placement, max(free, own) // gpus)


def _gib(size: ByteSize) -> str:
    return f"{size.count / 2**30:.3g}Gi"
