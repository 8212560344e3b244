"""Metrics about LatentModels and GPUPools, read off the cache whenever somebody scrapes: a model that is gone has none.

``namespace`` and ``model`` are the LatentModel's, so scrapes need ``honorLabels``. Only the replica that leads says
anything, or everything would count twice.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from latentry_operator.api.status import ConditionStatus, ConditionType
from latentry_operator.kube.cache import Cache
from latentry_operator.kube.kinds import DEPLOYMENT
from latentry_operator.kube.records import Stored

_OF_MODEL = ("namespace", "model")
_CONDITIONS = frozenset(ConditionType)
_STATUSES = tuple(ConditionStatus)
_DIGEST_DIGITS = 12


class ModelCollector(Collector):
    """See the module.

    Args:
        leads: whether this process acts now.
    """

    def __init__(self, cache: Cache, leads: Callable[[], bool]) -> None:
        self._cache = cache
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """Every family, without samples while another replica leads."""
        leads = self._leads()
        models, pools = _ModelFamilies(), _PoolFamilies()
        for record in self._cache.models if leads else ():
            models.add(record, self._replicas(record))
        for record in self._cache.pools if leads else ():
            pools.add(record)
        yield from models.families()
        yield from pools.families()

    def _replicas(self, record: Stored) -> tuple[int, int] | None:
        """Replicas that should run and that answer, of the revision that carries the traffic."""
        revision = _part(_status(record), "stable").get("revision")
        for kind, child in self._cache.children(record.key):
            if kind is DEPLOYMENT and child.revision == revision and revision:
                return child.replicas or 0, int(child.status.get("availableReplicas", 0))
        return None


class _ModelFamilies:
    def __init__(self) -> None:
        self._info = GaugeMetricFamily(
            "latentry_operator_model_info",
            "1: the revision and the bundle's version that carry the traffic, and what runs the pods.",
            labels=(*_OF_MODEL, "revision", "version", "workload"),
        )
        self._condition = GaugeMetricFamily(
            "latentry_operator_model_condition",
            "1 for the present status of a condition, 0 for the others.",
            labels=(*_OF_MODEL, "type", "status"),
        )
        self._state = GaugeMetricFamily(
            "latentry_operator_model_rollout_state",
            "1: the reason of the condition Progressing.",
            labels=(*_OF_MODEL, "reason"),
        )
        self._since = GaugeMetricFamily(
            "latentry_operator_model_rollout_since_timestamp_seconds",
            "Unix time since which the condition Progressing has its status.",
            labels=_OF_MODEL,
        )
        self._replicas = GaugeMetricFamily(
            "latentry_operator_model_replicas",
            "Replicas of the revision that carries the traffic, those that should run and those that answer.",
            labels=(*_OF_MODEL, "state"),
        )

    def add(self, record: Stored, replicas: tuple[int, int] | None) -> None:
        model, status = record.key, _status(record)
        stable = _part(status, "stable")
        if stable:
            digest = str(stable.get("digest", "")).removeprefix("sha256:")[:_DIGEST_DIGITS]
            version = str(stable.get("version") or digest)
            self._info.add_metric([*model, str(stable.get("revision")), version, str(status.get("workload", ""))], 1)
        for condition in status.get("conditions") or ():
            self._add_condition(model, condition)
        if replicas is not None:
            for state, count in zip(("desired", "ready"), replicas, strict=True):
                self._replicas.add_metric([*model, state], count)

    def _add_condition(self, model: tuple[str, str], condition: Mapping[str, Any]) -> None:
        kind = condition.get("type")
        if kind not in _CONDITIONS:
            return  # somebody else's
        for status in _STATUSES:
            self._condition.add_metric([*model, kind, status], float(condition.get("status") == status))
        if kind == ConditionType.PROGRESSING:
            self._state.add_metric([*model, str(condition.get("reason"))], 1)
            since = datetime.fromisoformat(condition["lastTransitionTime"])
            self._since.add_metric(model, since.timestamp())

    def families(self) -> tuple[Metric, ...]:
        return self._info, self._condition, self._state, self._since, self._replicas


class _PoolFamilies:
    def __init__(self) -> None:
        self._used = GaugeMetricFamily(
            "latentry_operator_model_devices",
            "Devices of a GPU pool that the model's pods hold or that it was promised.",
            labels=(*_OF_MODEL, "gpu_pool"),
        )
        self._devices = GaugeMetricFamily(
            "latentry_operator_gpu_pool_devices",
            "Devices that LatentModels may use together (none: no limit), and those in use or promised.",
            labels=("gpu_pool", "state"),
        )
        self._price = GaugeMetricFamily(
            "latentry_operator_gpu_pool_price_per_device_hour",
            "Price of one device, in the currency per hour, as the GPUPool gives it.",
            labels=("gpu_pool", "currency"),
        )

    def add(self, record: Stored) -> None:
        name, spec, status = record.key[1], _part(record.raw, "spec"), _status(record)
        for user in status.get("users") or ():
            self._used.add_metric([user["namespace"], user["name"], name], user["devices"])
        self._devices.add_metric([name, "in_use"], status.get("devicesInUse", 0))
        if (most := spec.get("maxDevices")) is not None:
            self._devices.add_metric([name, "limit"], most)
        price = _part(spec, "price")
        if {"perDeviceHour", "currency"} <= price.keys():
            self._price.add_metric([name, str(price["currency"])], float(price["perDeviceHour"]))

    def families(self) -> tuple[Metric, ...]:
        return self._used, self._devices, self._price


def _status(record: Stored) -> Mapping[str, Any]:
    return _part(record.raw, "status")


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}
