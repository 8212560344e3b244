"""What KServe (Standard mode, v0.20) makes of an InferenceService: child objects and status. Pure.

Known traps are reproduced: Ready follows the Deployment's Available condition, so it stays true in the middle of a
roll-out (kserve#4626), and status.observedGeneration is the Deployment's (kserve#6081). Left out: the storage
initializer and other pod webhooks, autoscalers, routes, predictors other than ``model``.
"""

from typing import Any

Obj = dict[str, Any]
OWNER_LABEL = "serving.kserve.io/inferenceservice"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
VISIBILITY_LABEL = "networking.kserve.io/visibility"
FINALIZER = "inferenceservice.finalizers"
MAIN, IN_FRONT = "kserve-container", "transformer-container"
NOT_OF_A_POD = {
    *("annotations", "autoScaling", "batcher", "canaryTrafficPercent", "containerConcurrency", "containers"),
    *(
        "deploymentStrategy",
        "labels",
        "logger",
        "maxReplicas",
        "minReplicas",
        "model",
        "scaleMetric",
        "scaleMetricType",
    ),
    *("scaleTarget", "storageUris", "timeout", "workerSpec"),
}
RUNTIME_POD_FIELDS = ("affinity", "imagePullSecrets", "nodeSelector", "tolerations", "volumes")


def child_name(service: Obj) -> str:
    return f"{service['metadata']['name']}-predictor"


def _child_metadata(service: Obj) -> Obj:
    meta = service["metadata"]
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    own = {"app": f"isvc.{child_name(service)}", OWNER_LABEL: meta["name"], "component": "predictor"}
    return {
        "name": child_name(service),
        "labels": meta.get("labels", {}) | own,
        "ownerReferences": [owner],
    }


def containers(service: Obj, runtime: Obj) -> list[Obj]:
    """The runtime's containers, the main one with the model's own arguments and resources, then the predictor's."""
    predictor = service["spec"]["predictor"]
    merged: list[Obj] = []
    for entry in runtime["spec"]["containers"]:
        if entry["name"] != MAIN:
            merged.append(entry)
            continue
        model = predictor["model"]
        own = {key: model[key] for key in ("resources", "image") if model.get(key)}
        lists = {key: [*entry.get(key, []), *model.get(key, [])] for key in ("args", "env")}
        merged.append(entry | own | {key: value for key, value in lists.items() if value})
    return [*merged, *predictor.get("containers", [])]


def deployment(service: Obj, runtime: Obj) -> Obj:
    """The child Deployment, to be applied."""
    predictor = service["spec"]["predictor"]
    metadata = _child_metadata(service)
    annotations = service["metadata"].get("annotations", {}) | predictor.get("annotations", {})
    annotations = {key: value for key, value in annotations.items() if not key.startswith("kubectl.kubernetes.io/")}
    pod = {key: runtime["spec"][key] for key in RUNTIME_POD_FIELDS if runtime["spec"].get(key)}
    pod |= {key: value for key, value in predictor.items() if key not in NOT_OF_A_POD}
    template = {
        "metadata": {"labels": metadata["labels"] | predictor.get("labels", {}), "annotations": annotations},
        "spec": pod | {"containers": containers(service, runtime)},
    }
    spec = {
        "replicas": predictor.get("minReplicas", 1),
        "selector": {"matchLabels": {"app": metadata["labels"]["app"]}},
        "strategy": predictor.get("deploymentStrategy", {"type": "RollingUpdate"}),
        "template": template,
    }
    return {"metadata": metadata, "spec": spec}


def kubernetes_service(service: Obj, runtime: Obj) -> Obj:
    """The child Service: the first port of the container in front is 80, the others keep their numbers."""
    metadata = _child_metadata(service)
    entries = containers(service, runtime)
    front = next((entry for entry in entries if entry["name"] == IN_FRONT), entries[0])
    ports = []
    for number, port in enumerate(front.get("ports", [{"name": "http", "containerPort": 8080}])):
        name = port.get("name", f"port-{number}")
        served = {"name": name, "port": 80 if number == 0 else port["containerPort"], "protocol": "TCP"}
        h2 = {"appProtocol": "kubernetes.io/h2c"} if "grpc" in name or "h2c" in name else {}
        ports.append(served | h2 | {"targetPort": port["containerPort"]})
    return {"metadata": metadata, "spec": {"selector": {"app": metadata["labels"]["app"]}, "ports": ports}}


def status(service: Obj, child: Obj | None, failure: tuple[str, str] | None, now: str) -> Obj:
    """The InferenceService's status from its Deployment's, and the first failing pod's (reason, message)."""
    predictor_ready = _available(child)
    local = service["metadata"].get("labels", {}).get(VISIBILITY_LABEL) == "cluster-local"
    ingress: Obj = {"status": "True"} if local or predictor_ready["status"] == "True" else {"status": "Unknown"}
    ready = predictor_ready if predictor_ready["status"] != "True" else ingress
    written = {"PredictorReady": predictor_ready, "IngressReady": ingress, "Ready": ready}
    answer: Obj = {
        "conditions": _conditions(service, written, now),
        "deploymentMode": "Standard",
        "modelStatus": _model_status(service, child, failure, predictor_ready["status"] == "True", now),
        "observedGeneration": (child or {}).get("status", {}).get("observedGeneration", 0),
    }
    if ready["status"] == "True":
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        inside = f"http://{name}-predictor.{namespace}.svc.cluster.local"
        answer["url"] = inside if local else f"http://{name}-{namespace}.example.com"
        answer["address"] = {"url": inside}
        answer["components"] = {"predictor": {"url": inside}}
    return answer


def runtime_missing(service: Obj, runtime: str, now: str) -> Obj:
    """The status of an InferenceService that names a ServingRuntime that does not exist."""
    problem = {"status": "False", "reason": "RuntimeNotRecognized", "message": f"runtime {runtime} not found"}
    info = {"reason": "RuntimeNotRecognized", "message": problem["message"]}
    return {
        "conditions": _conditions(service, {"PredictorReady": problem, "Ready": problem}, now),
        "modelStatus": {
            "transitionStatus": "InvalidSpec",
            "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
            "lastFailureInfo": info,
        },
    }


def _available(child: Obj | None) -> Obj:
    for entry in (child or {}).get("status", {}).get("conditions", []):
        if entry["type"] == "Available":
            return {key: entry[key] for key in ("status", "reason", "message") if entry.get(key)}
    return {"status": "Unknown"}


def _conditions(service: Obj, written: dict[str, Obj], now: str) -> list[Obj]:
    """In full; the time moves only where the status does."""
    before = {entry["type"]: entry for entry in service.get("status", {}).get("conditions", [])}
    conditions = []
    for kind, entry in sorted(written.items()):
        old = before.get(kind, {})
        since = old["lastTransitionTime"] if old.get("status") == entry["status"] else now
        conditions.append({"type": kind, **entry, "lastTransitionTime": since})
    return conditions


def _model_status(service: Obj, child: Obj | None, failure: tuple[str, str] | None, loaded: bool, now: str) -> Obj:
    before = service.get("status", {}).get("modelStatus", {})
    active = "Loaded" if loaded else "Pending"
    replicas = (child or {}).get("status", {}).get("replicas", 0)
    answer: Obj = {"copies": {"failedCopies": 0, "totalCopies": replicas}, "lastFailureInfo": None}
    if failure is not None:
        info = {"reason": "ModelLoadFailed", "message": f"{failure[0]}: {failure[1]}"}
        old = before.get("lastFailureInfo") or {}
        info["time"] = old["time"] if old.get("message") == info["message"] else now
        answer |= {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}
        answer["copies"]["failedCopies"] = 1
        return answer | {"states": {"activeModelState": active, "targetModelState": "FailedToLoad"}}
    state = "UpToDate" if loaded else "InProgress"
    return answer | {"transitionStatus": state, "states": {"activeModelState": active, "targetModelState": active}}
