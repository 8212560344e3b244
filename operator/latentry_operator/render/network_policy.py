"""Who may reach the pods: clients the model, monitoring and the operator the admin port, nobody Triton's."""

from typing import Any

from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, plain, selector


def network_policy(plan: ClusterPlan) -> Manifest:
    """The NetworkPolicy for ingress. Egress is left to the cluster: only it knows where the bundle's storage is."""
    peers = plain(plan.settings.admin_peers)
    rules = [{"ports": [_port(plan.tap.http.port), _port(plan.tap.grpc.port)]}]
    if peers:  # a rule without peers would let everybody in
        rules.append({"from": peers, "ports": [_port(plan.tap.admin.port)]})
    return model_object(
        plan,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec={"podSelector": {"matchLabels": selector(plan)}, "policyTypes": ["Ingress"], "ingress": rules},
    )


def _port(number: int) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"}
