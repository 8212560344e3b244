"""The operator's metrics as it exports them, of models that a test moves from state to state."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, start_http_server

from latentry_operator.kube.kinds import DEPLOYMENT, Key, Kind
from latentry_operator.kube.records import Child, Stored
from latentry_operator.runtime.metrics import OperatorMetrics
from latentry_operator.runtime.model_metrics import ModelCollector

_SINCE = "2026-01-01T00:00:00Z"
POOL = "a10"


def _condition(kind: str, status: bool, reason: str) -> dict[str, str]:
    return {"type": kind, "status": str(status), "reason": reason, "lastTransitionTime": _SINCE}


class Cluster:
    """Stands for the operator's cache; the metrics made of it are the real ones."""

    def __init__(self, namespace: str, names: Sequence[str]) -> None:
        self._namespace = namespace
        self._ready = dict.fromkeys(names, 1)
        self._reasons = dict.fromkeys(names, "Complete")
        self._accepted = dict.fromkeys(names, True)
        self._devices = 1
        self.leads = True
        registry = CollectorRegistry()
        self._metrics = OperatorMetrics(registry)
        self._metrics.leading.set_function(lambda: float(self.leads))
        registry.register(ModelCollector(self, lambda: self.leads))  # type: ignore[arg-type]
        self._server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def stall(self, name: str) -> None:
        """Its rollout does not go on."""
        self._reasons[name] = "Stalled"

    def none_ready(self, name: str) -> None:
        """No replica answers any more."""
        self._ready[name] = 0

    def use_up(self, waiting: str) -> None:
        """The pool's last devices go, and a model waits for one."""
        with self._lock:
            self._devices = 8
            self._ready |= {waiting: 0}
            self._reasons |= {waiting: "NotAccepted"}
            self._accepted |= {waiting: False}

    @property
    def models(self) -> list[Stored]:
        """As the cache has them."""
        with self._lock:
            return [self._model(name) for name in self._ready]

    @property
    def pools(self) -> list[Stored]:
        (first, *_) = self._ready
        spec = {"memoryPerDevice": "24Gi", "maxDevices": 8, "price": {"perDeviceHour": 1.5, "currency": "EUR"}}
        users = [{"namespace": self._namespace, "name": first, "devices": self._devices}]
        return [
            Stored(
                {
                    "metadata": {"name": POOL, "resourceVersion": "1", "uid": POOL},
                    "spec": spec,
                    "status": {"devicesInUse": self._devices, "users": users},
                }
            )
        ]

    def children(self, model: Key) -> list[tuple[Kind, Child]]:
        """The Deployment of the revision that carries the traffic."""
        child = Child(
            "apps/v1", "Deployment", model, 1, model[1], model[1], "r", None, False, {}, {}, b"", 1, 1, "",
            {"availableReplicas": self._ready[model[1]]},
        )  # fmt: skip
        return [(DEPLOYMENT, child)]

    def _model(self, name: str) -> Stored:
        reason, ready = self._reasons[name], bool(self._ready[name])
        conditions: list[dict[str, Any]] = [
            _condition("Accepted", self._accepted[name], "Valid" if self._accepted[name] else "NoRoom"),
            _condition("Available", ready, "Ready" if ready else "NoReplicaReady"),
            _condition("Progressing", False, reason),
        ]
        return Stored(
            {
                "metadata": {"name": name, "namespace": self._namespace, "resourceVersion": "1", "uid": name},
                "status": {
                    "workload": "KServe",
                    "stable": {"revision": "r", "version": "7", "readyReplicas": self._ready[name]},
                    "conditions": conditions,
                },
            }
        )
