"""The two containers of a serving pod: Triton on loopback ports, and the tap in front of it."""

import math

from latentry_operator.plan.cluster import BUNDLE_DIR, ClusterPlan
from latentry_operator.render.config_map import FILE
from latentry_operator.render.manifest import Manifest
from latentry_operator.render.resources import resources
from latentry_serving.contract.manifest import REPOSITORY_FOLDER
from latentry_serving.contract.triton_traces import TraceExport, trace_arguments

CONFIG_DIR = "/etc/latentry"
TRITON_EXIT_SECONDS = 10
"""How long Triton may take to end once the tap has ended, when no call is in flight any more."""
_KILL_MARGIN_SECONDS = 5

# Triton listens on loopback, where the kubelet's own HTTP probes cannot reach it; NVIDIA's image has bash.
_LIVE = (
    "live() ( exec 3<>/dev/tcp/127.0.0.1/%d && printf 'GET /v2/health/live HTTP/1.0\\r\\n\\r\\n' >&3"
    ' && read -r -t 2 _ status _ <&3 && [ "$status" = 200 ] ) 2>/dev/null; '
)
_TAP_RUNS = "( exec 3<>/dev/tcp/127.0.0.1/%d ) 2>/dev/null"


def triton_container(plan: ClusterPlan, name: str) -> Manifest:
    """Triton, whose models the tap loads. Resources and the bundle's mount are the workload's to add."""
    live = {"exec": {"command": triton_live_command(plan)}, "timeoutSeconds": 5, "successThreshold": 1}
    return {
        "name": name,
        "image": plan.model.spec.pod.images.triton or plan.settings.triton_image,
        "command": ["tritonserver"],
        "args": _triton_args(plan),
        "env": _triton_env(plan),
        "startupProbe": live | {"periodSeconds": 2, "failureThreshold": 150},
        "livenessProbe": live | {"periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": live | {"periodSeconds": 10, "failureThreshold": 2},
        "lifecycle": {"preStop": {"exec": {"command": triton_stop_command(plan)}}},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "triton-tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's own emptyDir
    }


def triton_live_command(plan: ClusterPlan) -> list[str]:
    """Succeeds when Triton answers that it lives."""
    return ["bash", "-c", _LIVE % plan.tap.upstream_http.port + "live"]


def triton_stop_command(plan: ClusterPlan) -> list[str]:
    """Ends when the tap has ended, so that calls in flight still find a Triton; at once when Triton is stuck."""
    loop = f"while {_TAP_RUNS % plan.tap.admin.port} && live; do sleep 0.2; done"
    return ["bash", "-c", _LIVE % plan.tap.upstream_http.port + loop]


def _triton_args(plan: ClusterPlan) -> list[str]:
    return [
        f"--model-repository={BUNDLE_DIR}/{REPOSITORY_FOLDER}",
        "--model-control-mode=explicit",
        f"--http-address={plan.tap.upstream_http.host}",
        f"--http-port={plan.tap.upstream_http.port}",
        f"--grpc-address={plan.tap.upstream_grpc.host}",
        f"--grpc-port={plan.tap.upstream_grpc.port}",
        f"--metrics-address={plan.tap.upstream_metrics.host}",
        f"--metrics-port={plan.tap.upstream_metrics.port}",
        f"--allow-gpu-metrics={str(bool(plan.placement.devices)).lower()}",
        f"--exit-timeout-secs={TRITON_EXIT_SECONDS}",
        *_trace_args(plan),
    ]


def _trace_args(plan: ClusterPlan) -> tuple[str, ...]:
    url = plan.settings.triton_traces_url
    return () if url is None else trace_arguments(TraceExport(url, plan.tap.model))


def _triton_env(plan: ClusterPlan) -> list[Manifest]:
    env = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - caches of CUDA and the backends; the root is read-only
    if not plan.placement.devices:
        # The image asks for all GPUs; on a node whose default runtime is NVIDIA's it would get them without a request.
        env.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    return env


def tap_container(plan: ClusterPlan, name: str) -> Manifest:
    """The tap, which carries the traffic. Its readiness is the pod's."""
    admin = {"port": "admin", "scheme": "HTTP"}
    return {
        "name": name,
        "image": plan.model.spec.pod.images.tap or plan.settings.tap_image,
        "args": ["--config", f"{CONFIG_DIR}/{FILE}"],
        "ports": [
            _port("http", plan.tap.http.port),
            _port("grpc", plan.tap.grpc.port),
            _port("admin", plan.tap.admin.port),
        ],
        "resources": resources(plan.settings.tap_amounts),
        "livenessProbe": _probe({"httpGet": admin | {"path": "/healthz"}}, period=10, failures=6, timeout=5),
        "readinessProbe": _probe({"httpGet": admin | {"path": "/readyz"}}, period=5, failures=2, timeout=3),
        "lifecycle": {"preStop": {"exec": {"command": _sleep(plan.settings.endpoint_removal_seconds)}}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "tap-config", "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": "tap-tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own emptyDir
        ],
    }


def _sleep(seconds: int) -> list[str]:
    # The tap's image has no shell; the API's own sleep action is younger than many clusters.
    return ["python", "-c", f"import time; time.sleep({seconds})"]


def termination_seconds(plan: ClusterPlan) -> int:
    """From SIGTERM to SIGKILL: until no proxy sends calls, the tap's drain, Triton's end, and a margin."""
    drain = math.ceil(plan.tap.drain_seconds)
    return plan.settings.endpoint_removal_seconds + drain + TRITON_EXIT_SECONDS + _KILL_MARGIN_SECONDS


def container_security() -> Manifest:
    """No rights beyond running the program."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def _port(name: str, number: int) -> Manifest:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(action: Manifest, *, period: int, failures: int, timeout: int) -> Manifest:
    return action | {
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "successThreshold": 1,
        "failureThreshold": failures,
    }
