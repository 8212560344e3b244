"""What wire tests of rollouts with routes share: a model's routes, and somebody who says what candidates' taps say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kube import Kind, Obj

from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.plan.rollout.facts import Evidence, GoldenFacts, ProbeResult
from latentry_operator.plan.rollout.state import RolloutState
from latentry_operator.runtime.observe import Seen

HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
GRPC_ROUTE = Kind("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes")
GATEWAY = {
    "parentRefs": [{"name": "shared"}],
    "hostnames": ["tiny.example.com"],
    "grpcHostnames": ["tiny-grpc.example.com"],
}
UNWATCHED = {"compatibility": {"enabled": False}, "health": {"enabled": False}, "drift": False}
"""Gates that stand-in pods give nothing to judge by."""


@dataclass
class Judge:
    """What the taps of candidates say; ``read`` takes the place of EvidenceReader's."""

    golden: ProbeResult = ProbeResult.PASSED
    fails_at: int = -1
    """The candidate's share, percent, from which on its golden outputs are missed."""

    async def read(
        self, _: Any, seen: Seen, plan: ClusterPlan, state: RolloutState | None, shares: Mapping[str, int]
    ) -> Evidence:
        if state is None:
            return Evidence()
        fails = 0 <= self.fails_at <= state.weight
        result = ProbeResult.FAILED if fails else self.golden
        return Evidence(
            stage=state.stage,
            changes=(),
            stable_space="a",
            candidate_space="a",
            golden=(GoldenFacts("encode", result, "3 of 8 values are off by up to 0.4"),),
        )


def route_weights(route: Obj) -> dict[str, int]:
    """Revision -> share. Backends are the revisions' own Services."""
    (rule,) = route["spec"]["rules"]
    return {backend["name"].removesuffix("-route"): backend["weight"] for backend in rule["backendRefs"]}
