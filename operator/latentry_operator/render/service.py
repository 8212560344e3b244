"""The Service that clients use. Revisions come and go behind it."""

from latentry_operator.api.status import ModelAddress
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, model_object, selector
from latentry_serving.contract import ports

HTTP_PORT = 80
GRPC_PORT = ports.TAP_GRPC


def service(plan: ClusterPlan, traffic: str) -> Manifest:
    """The Service in front of the revision ``traffic``.

    gRPC's appProtocol is the one of KEP-3726, which Gateway API implementations and service meshes know.
    """
    return model_object(
        plan,
        "v1",
        "Service",
        spec={
            "type": "ClusterIP",
            "selector": selector(plan, traffic),
            "ports": [
                _port("http", HTTP_PORT, "http"),
                _port("grpc", GRPC_PORT, "kubernetes.io/h2c"),
            ],
        },
    )


def _port(name: str, port: int, protocol: str) -> Manifest:
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}


def address(plan: ClusterPlan) -> ModelAddress:
    """Where clients in the cluster reach the model."""
    host = f"{plan.name}.{plan.namespace}.svc.{plan.settings.cluster_domain}"
    return ModelAddress(http=f"http://{host}", grpc=f"{host}:{GRPC_PORT}")
