"""The models, what is done to each, and which alerts must come of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.parse import parse_resource
from latentry_serving.contract.tap_config import Sampling

NAMESPACE = "vision"


class Behind(StrEnum):
    """Which Triton stands behind a tap."""

    SHARED = "shared"
    SLOW = "slow"
    """Holds calls back until a batch is full."""
    KILLED = "killed"


Expected = frozenset[tuple[str, str, str]]
"""(alert, severity, slo or nothing)."""


def _burns(severity: str, *slos: str) -> Expected:
    return frozenset(("LatentryErrorBudgetBurn", severity, slo) for slo in slos)


def _alerts(severity: str, *names: str) -> Expected:
    return frozenset((name, severity, "") for name in names)


_SERVING = ("availability", "latency-500ms")


@dataclass(frozen=True)
class Model:
    """One LatentModel.

    Attributes:
        fault: what happens to it.
        told: alerts that must reach somebody.
        silent: alerts that must fire and reach nobody, for another says it already.
        may: alerts that may fire besides, and must not reach anybody: slower windows of what is told.
        also: alerts that may fire besides and may reach somebody: it is a matter of time.
        vae: with the profile, sampled and watched; else an encoder, measured and probed.
        bundle: whether the tap has one at all.
        spoilt: what its tap's configuration differs in once it is hurt.
    """

    name: str
    fault: str = ""
    told: Expected = frozenset()
    silent: Expected = frozenset()
    may: Expected = frozenset()
    also: Expected = frozenset()
    behind: Behind = Behind.SHARED
    vae: bool = True
    bundle: bool = True
    sampled_per_second: float = 0
    golden_every_s: float = 300
    spoilt: dict[str, Any] = field(default_factory=dict)

    def resource(self, bundle_uri: str, golden_every_s: float) -> dict[str, Any]:
        """As a user writes it."""
        slo: dict[str, Any] = {"availability": 99.9, "latency": [{"within": "500ms", "objective": 99}]}
        if self.vae:
            slo["quality"] = {"objective": 90, "anomalyRate": 20}
        return {
            "apiVersion": "latentry.dev/v1alpha1",
            "kind": "LatentModel",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "family": "VAE" if self.vae else "Encoder",
                "bundle": {"uri": bundle_uri},
                "slo": slo,
                "monitoring": {
                    "sampling": {"maxPerSecond": self.sampled_per_second},
                    "drift": {"window": 100, "expectedRunTime": "30d"},
                    "golden": {"every": f"{round(golden_every_s * 1000)}ms"},
                },
            },
        }

    def parsed(self, bundle_uri: str, golden_every_s: float) -> LatentModel:
        found = parse_resource(self.resource(bundle_uri, golden_every_s), subject=self.name)
        assert isinstance(found, LatentModel)
        return found


MODELS = (
    Model("healthy", sampled_per_second=20),
    Model(
        "drifts",
        fault="inputs drift",
        told=_alerts("ticket", "LatentryDrift", "LatentryModelUnhealthy") | _burns("ticket", "quality"),
        also=_burns("ticket", "anomaly-rate"),
        sampled_per_second=20,
    ),
    Model(
        "fails",
        fault="a decoder's errors, while inputs drift",
        told=_burns("page", *_SERVING),
        silent=_alerts("ticket", "LatentryDrift", "LatentryModelUnhealthy"),
        may=_burns("ticket", *_SERVING),
        also=_burns("ticket", "quality", "anomaly-rate"),
        sampled_per_second=20,
    ),
    Model(
        "nan",
        fault="NaN in outputs",
        told=_alerts("page", "LatentryNonFiniteOutputs"),
        bundle=False,
        sampled_per_second=20,
    ),
    Model(
        "slow",
        fault="Triton waits for batches that do not fill",
        told=_burns("page", "latency-500ms"),
        may=_burns("ticket", "latency-500ms"),
        behind=Behind.SLOW,
        vae=False,
    ),
    Model(
        "gone",
        fault="Triton is killed",
        told=_burns("page", *_SERVING) | _alerts("page", "LatentryGoldenProbeFailing"),
        may=_burns("ticket", *_SERVING),
        behind=Behind.KILLED,
        vae=False,
        golden_every_s=60,
    ),
    Model(
        "golden",
        fault="known inputs, other outputs; its rollout is stalled",
        told=_alerts("page", "LatentryGoldenProbeFailing") | _alerts("ticket", "LatentryRolloutStuck"),
        golden_every_s=60,
    ),
    Model(
        "refused",
        fault="another bundle than promised; its rollout is stalled",
        told=_alerts("ticket", "LatentryBundleRefused"),
        silent=_alerts("ticket", "LatentryRolloutStuck"),
        spoilt={"digest": "sha256:" + "0" * 64},
    ),
    Model(
        "crowded",
        fault="too many connections, garbage on them, samples too large",
        told=_alerts("page", "LatentryConnectionsRefused")
        | _alerts("ticket", "LatentryOpaqueConnections", "LatentrySamplesLost"),
        bundle=False,
        sampled_per_second=20,
        spoilt={"max_connections": 6, "sampling": Sampling(max_per_second=20, max_bytes=1)},
    ),
    Model(
        "dark",
        fault="the tap is killed, then no replica is ready",
        told=_alerts("page", "LatentryNoData", "LatentryModelUnavailable"),
        silent=_alerts("ticket", "LatentryTapDown"),
        bundle=False,
    ),
)
