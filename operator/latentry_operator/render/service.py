"""The Service that clients use. Revisions come and go behind it."""

from latentry_operator.api.status import ModelAddress
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, any_revision_object, model_object, selector
from latentry_serving.contract import ports

HTTP_PORT = 80
GRPC_PORT = ports.TAP_GRPC
_REVISION_SUFFIX = "-route"
"""KServe may have a Service of the revision's own name."""


def service(plan: ClusterPlan, traffic: str) -> Manifest:
    """The Service in front of the revision ``traffic``.

    gRPC's appProtocol is the one of KEP-3726, which Gateway API implementations and service meshes know.
    """
    return model_object(plan, "v1", "Service", spec=_spec(plan, traffic))


def revision_service(plan: ClusterPlan, revision: str) -> Manifest:
    """The Service in front of one revision, for routes; any revision of the model, also one the spec is past."""
    return any_revision_object(
        plan, revision, "v1", "Service", name=revision_service_name(revision), spec=_spec(plan, revision)
    )


def revision_service_name(revision: str) -> str:
    """Name of the Service in front of one revision."""
    return f"{revision}{_REVISION_SUFFIX}"


def revision_behind(service: str) -> str:
    """The revision that a Service made by :func:`revision_service` is in front of; empty for any other name."""
    return service.removesuffix(_REVISION_SUFFIX) if service.endswith(_REVISION_SUFFIX) else ""


def _spec(plan: ClusterPlan, revision: str) -> Manifest:
    return {
        "type": "ClusterIP",
        "selector": selector(plan, revision),
        "ports": [
            _port("http", HTTP_PORT, "http"),
            _port("grpc", GRPC_PORT, "kubernetes.io/h2c"),
        ],
    }


def _port(name: str, port: int, protocol: str) -> Manifest:
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}


def address(plan: ClusterPlan) -> ModelAddress:
    """Where clients in the cluster reach the model."""
    host = f"{plan.name}.{plan.namespace}.svc.{plan.settings.cluster_domain}"
    return ModelAddress(http=f"http://{host}", grpc=f"{host}:{GRPC_PORT}")
