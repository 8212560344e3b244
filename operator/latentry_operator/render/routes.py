"""Gateway API routes that divide calls between revisions by weight, and the Services they point to.

Every revision has a Service of its own while there are routes. It is made before a route names it and goes after, so no
route ever points to nothing.
"""

from typing import Any

from latentry_operator.api.gateway import Gateway
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.plan.exposure import Exposure, routed
from latentry_operator.render.manifest import Manifest, model_object
from latentry_operator.render.service import GRPC_PORT, HTTP_PORT, revision_service, revision_service_name

API_VERSION = "gateway.networking.k8s.io/v1"


def revision_services(plan: ClusterPlan, exposure: Exposure) -> tuple[Manifest, ...]:
    """A Service in front of each revision, none without routes."""
    if not routed(plan):
        return ()
    return tuple(revision_service(plan, revision) for revision in sorted(exposure.revisions))


def http_route(plan: ClusterPlan, exposure: Exposure) -> Manifest | None:
    """The HTTPRoute for calls over HTTP; None where the spec names no hostname for it, or nothing may serve."""
    gateway = plan.model.spec.gateway
    if gateway is None or not gateway.hostnames or not exposure.shares or not routed(plan):
        return None
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], **_rule(exposure, HTTP_PORT)}
    return _route(plan, "HTTPRoute", gateway, gateway.hostnames, rule)


def grpc_route(plan: ClusterPlan, exposure: Exposure) -> Manifest | None:
    """The GRPCRoute for calls over gRPC; None as for :func:`http_route`."""
    gateway = plan.model.spec.gateway
    if gateway is None or not gateway.grpc_hostnames or not exposure.shares or not routed(plan):
        return None
    return _route(plan, "GRPCRoute", gateway, gateway.grpc_hostnames, _rule(exposure, GRPC_PORT))


def _route(plan: ClusterPlan, kind: str, gateway: Gateway, hostnames: tuple[str, ...], rule: Manifest) -> Manifest:
    parents = [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", **parent.to_dict()} for parent in gateway.parent_refs
    ]
    spec = {"parentRefs": parents, "hostnames": list(hostnames), "rules": [rule]}
    return model_object(plan, API_VERSION, kind, spec=spec)


def _rule(exposure: Exposure, port: int) -> dict[str, Any]:
    backends = [
        {**_backend(revision, port), "weight": share} for revision, share in sorted(exposure.shares.items()) if share
    ]
    if not exposure.mirror:
        return {"backendRefs": backends}
    copies = {"type": "RequestMirror", "requestMirror": {"backendRef": _backend(exposure.mirror, port)}}
    return {"filters": [copies], "backendRefs": backends}


def _backend(revision: str, port: int) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": revision_service_name(revision), "port": port}
