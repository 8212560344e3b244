"""Checks across fields, each a small pure function from a typed section to problems.

What one field alone can get wrong is in the types. The CRD's CEL rules say part of the same on the API server; here it
is said again because older servers drop CEL, and because CEL cannot compare durations written in days.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from latentry_operator.api.base import GROUP, QUALIFIED_NAME
from latentry_operator.api.gateway import Gateway
from latentry_operator.api.gpupool import GPUPool, TaintEffect, Toleration, TolerationOperator
from latentry_operator.api.latentmodel import LatentModel, LatentModelSpec
from latentry_operator.api.objectives import DAY, SECOND, Monitoring, QualityObjective, Slo
from latentry_operator.api.quantity import MAX_CORES
from latentry_operator.api.rollout import PromqlCheck, Rollout, Strategy
from latentry_operator.api.serving import Bundle, Pod, Resources, Runtime, Scaling, ScalingMetric
from latentry_serving.contract.errors import Problem
from latentry_serving.contract.operations import OPERATIONS, Operation
from latentry_serving.contract.units import Duration

Resource = LatentModel | GPUPool
Problems = Iterator[Problem]

FILE_SCHEME = "file://"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
HOUR = 3_600 * SECOND


def local_path(uri: str) -> PurePosixPath | None:
    """The path of a ``file://`` URI, or None for any other scheme.

    Everything after ``file://`` is the path, with no host part and no escapes: ``file:///a/b`` is absolute, ``file://a/b``
    is relative to the current folder of the process that opens it.
    """
    return PurePosixPath(uri.removeprefix(FILE_SCHEME)) if uri.startswith(FILE_SCHEME) else None


def problems_of(resource: Resource) -> list[Problem]:
    """Every problem that spans fields, in the order of the fields."""
    return list(_model(resource.spec) if isinstance(resource, LatentModel) else _pool(resource))


def _model(spec: LatentModelSpec) -> Problems:
    yield from _bundle(spec.bundle)
    if spec.placement.gpus is not None and spec.placement.gpu_pool is None:
        problem = f"{spec.placement.gpus} without a gpuPool"
        yield Problem("spec.placement.gpus", problem, "name a GPUPool or remove gpus")
    yield from _runtime(spec.runtime)
    yield from _scaling(spec.scaling)
    if spec.scaling.metric is ScalingMetric.CPU and spec.runtime.resources.requests.cpu is None:
        yield Problem("spec.scaling.metric", "CPU use of what request?", "add spec.runtime.resources.requests.cpu")
    yield from _slo(spec.slo)
    if spec.slo.quality is not None:
        if Operation.SCORE not in OPERATIONS[spec.family]:
            yield Problem("spec.slo.quality", f"an {spec.family} reconstructs nothing", "remove quality")
        yield from _quality(spec.slo.quality)
    yield from _monitoring(spec.monitoring)
    yield from _rollout(spec.rollout)
    if spec.gateway is not None:
        yield from _gateway(spec.gateway)
    yield from _pod(spec.pod)


def _bundle(bundle: Bundle) -> Problems:
    path = local_path(bundle.uri)
    if path is None:
        if bundle.digest is None:
            yield Problem(
                "spec.bundle.digest",
                f"required for {bundle.uri}",
                "add the digest that `latentry bundle inspect` prints; only file:// may leave it out",
            )
    elif path.parts[:1] == ("~",):
        yield Problem(
            "spec.bundle.uri", f"{bundle.uri}: ~ is not expanded", "write the path out, as file:///home/me/bundle"
        )
    elif path.parts[:1] == ("localhost",):
        yield Problem(
            "spec.bundle.uri",
            f"{bundle.uri} has a host, file:// takes a path only",
            f"write file:///{path.relative_to('localhost')}",
        )


def _runtime(runtime: Runtime) -> Problems:
    yield from _within("spec.runtime.maxQueueDelay", runtime.max_queue_delay, Duration(0), Duration(10 * SECOND))
    yield from _resources(runtime.resources)


def _resources(resources: Resources) -> Problems:
    requests, limits = resources.requests, resources.limits
    for name, request, limit in (("cpu", requests.cpu, limits.cpu), ("memory", requests.memory, limits.memory)):
        # Each pair is CPU or bytes: they compare among themselves.
        if request is not None and limit is not None and request > limit:  # type: ignore[operator]
            yield Problem(
                f"spec.runtime.resources.requests.{name}",
                f"{request} is more than the limit of {limit}",
                "raise the limit or lower the request",
            )
    for kind, amounts in (("requests", requests), ("limits", limits)):
        if amounts.memory is not None and amounts.memory.count == 0:
            yield Problem(f"spec.runtime.resources.{kind}.memory", "0 bytes", "write 4Gi, say, or remove it")
        if amounts.cpu is not None and not 0 < amounts.cpu.millicores <= MAX_CORES * 1000:
            problem = f"{amounts.cpu} cores"
            yield Problem(f"spec.runtime.resources.{kind}.cpu", problem, f"write 1m to {MAX_CORES}, or remove it")


def _scaling(scaling: Scaling) -> Problems:
    most = scaling.max_replicas
    if most is not None and most < scaling.min_replicas:
        yield Problem(
            "spec.scaling.maxReplicas",
            f"{most} is less than minReplicas, {scaling.min_replicas}",
            f"write {scaling.min_replicas} or more",
        )
    if scaling.metric is ScalingMetric.NONE:
        if most is not None and most > scaling.min_replicas:
            yield Problem(
                "spec.scaling.maxReplicas",
                f"{most}, but metric None keeps {scaling.min_replicas}",
                "remove maxReplicas or choose metric Concurrency or CPU",
            )
        if scaling.target is not None:
            yield Problem("spec.scaling.target", f"{scaling.target}, but metric is None", "remove target")
    if scaling.metric is ScalingMetric.CPU and scaling.target is not None and scaling.target > 100:
        yield Problem("spec.scaling.target", f"{scaling.target} percent of the CPU request", "write 1 to 100")


def _slo(slo: Slo) -> Problems:
    yield from _within("spec.slo.period", slo.period, Duration(HOUR), Duration(90 * DAY))
    for index, objective in enumerate(slo.latency):
        path = f"spec.slo.latency[{index}].within"
        yield from _within(path, objective.within, Duration(1_000), Duration(HOUR))
        if any(objective.within == other.within for other in slo.latency[:index]):
            yield Problem(path, f"{objective.within} twice", "keep one objective for each threshold")
    ordered = sorted(enumerate(slo.latency), key=lambda item: item[1].within)
    for (_, tight), (index, loose) in itertools.pairwise(ordered):
        if tight.within < loose.within and loose.objective <= tight.objective:
            yield Problem(
                f"spec.slo.latency[{index}].objective",
                f"{loose.objective:.10g} % within {loose.within} follows from"
                f" {tight.objective:.10g} % within {tight.within}",
                f"write more than {tight.objective:.10g} or remove it",
            )


def _quality(quality: QualityObjective) -> Problems:
    path, bound = "spec.slo.quality.reconstructionErrorWithin", quality.reconstruction_error_within
    if not bound.startswith("p"):
        if float(bound) == 0:
            yield Problem(path, "no error is within 0", 'write more, such as "0.02"')
        return
    percentile = float(bound[1:])
    if percentile == 0:
        yield Problem(path, "p0 holds no sample", "write p95 or p99")
    elif quality.objective >= percentile:
        yield Problem(
            "spec.slo.quality.objective",
            f"{quality.objective:.10g} % within {bound}, which holds {percentile:.10g} % of the validation data",
            f"write less than {percentile:.10g}, or a higher percentile",
        )


def _monitoring(monitoring: Monitoring) -> Problems:
    yield from _within(
        "spec.monitoring.drift.expectedRunTime",
        monitoring.drift.expected_run_time,
        Duration(HOUR),
        Duration(3_650 * DAY),
    )
    yield from _within("spec.monitoring.golden.every", monitoring.golden.every, Duration(SECOND), Duration(DAY))


def _rollout(rollout: Rollout) -> Problems:
    if rollout.steps and rollout.strategy is not Strategy.CANARY:
        yield Problem("spec.rollout.steps", f"not used by {rollout.strategy}", "remove them or write strategy: Canary")
    for index, step in enumerate(rollout.steps):
        yield from _within(f"spec.rollout.steps[{index}].for", step.hold_for, Duration(SECOND), Duration(90 * DAY))
        if index and step.weight <= rollout.steps[index - 1].weight:
            yield Problem(
                f"spec.rollout.steps[{index}].weight",
                f"{step.weight} is not more than {rollout.steps[index - 1].weight}, the step before",
                "write ascending weights, such as 5, 25, 50",
            )
    yield from _within("spec.rollout.deadline", rollout.deadline, Duration(SECOND), Duration(90 * DAY))
    yield from _within("spec.rollout.keepFor", rollout.keep_for, Duration(0), Duration(90 * DAY))
    yield from _within("spec.rollout.watchFor", rollout.watch_for, Duration(0), Duration(90 * DAY))
    longest = rollout.analysis.longest_wait
    yield from _within("spec.rollout.analysis.longestWait", longest, Duration(SECOND), Duration(90 * DAY))
    if rollout.shadow is not None:
        yield from _within("spec.rollout.shadow.for", rollout.shadow.hold_for, Duration(SECOND), Duration(90 * DAY))
    for index, check in enumerate(rollout.gates.promql):
        yield from _promql(f"spec.rollout.gates.promql[{index}]", check, rollout.gates.promql[:index])


def _gateway(gateway: Gateway) -> Problems:
    if not gateway.hostnames and not gateway.grpc_hostnames:
        remedy = "write hostnames for HTTP, grpcHostnames for gRPC, or both"
        yield Problem("spec.gateway", "no hostname", remedy)
    for index, name in enumerate(gateway.grpc_hostnames):
        if name in gateway.hostnames:
            problem = f"{name} is in hostnames too, and a Gateway refuses a name that HTTPRoute and GRPCRoute share"
            yield Problem(f"spec.gateway.grpcHostnames[{index}]", problem, "give gRPC another name")


def _promql(path: str, check: PromqlCheck, before: tuple[PromqlCheck, ...]) -> Problems:
    if any(check.name == other.name for other in before):
        yield Problem(f"{path}.name", f"{check.name} twice", "give each check a name of its own")
    if check.min is None and check.max is None:
        yield Problem(path, "no bound", "add min or max: what the query's value must not pass")
    elif check.min is not None and check.max is not None and check.min > check.max:
        yield Problem(f"{path}.min", f"{check.min:g} is more than max, {check.max:g}", "write min below max")
    yield from _within(f"{path}.every", check.every, Duration(SECOND), Duration(HOUR))


def _pod(pod: Pod) -> Problems:
    yield from _label_map("spec.pod.labels", pod.labels, values=True, ours=True)
    yield from _label_map("spec.pod.annotations", pod.annotations, values=False, ours=True)


def _pool(pool: GPUPool) -> Problems:
    yield from _label_map("spec.nodeSelector", pool.spec.node_selector, values=True, ours=False)
    for index, toleration in enumerate(pool.spec.tolerations):
        yield from _toleration(f"spec.tolerations[{index}]", toleration)
    if pool.spec.memory_per_device.count == 0:
        yield Problem("spec.memoryPerDevice", "0 bytes", "write the memory of one device, such as 24Gi")


def _toleration(path: str, toleration: Toleration) -> Problems:
    if toleration.operator is TolerationOperator.EXISTS and toleration.value is not None:
        yield Problem(f"{path}.value", "operator Exists compares no value", "remove value or write operator: Equal")
    if toleration.operator is TolerationOperator.EQUAL and toleration.key is None:
        yield Problem(f"{path}.key", "operator Equal needs a key", "add the taint's key or write operator: Exists")
    if toleration.toleration_seconds is not None and toleration.effect is not TaintEffect.NO_EXECUTE:
        yield Problem(f"{path}.tolerationSeconds", "only for effect NoExecute", "remove it or write effect: NoExecute")


def _label_map(path: str, labels: Mapping[str, str], *, values: bool, ours: bool) -> Problems:
    for key, value in labels.items():
        if not re.fullmatch(QUALIFIED_NAME, key) or len(key.rpartition("/")[2]) > 63 or len(key) > 317:
            yield Problem(f"{path}.{key}", f"{key!r} is no label key", "write name or example.com/name")
        elif ours and key.partition("/")[0].endswith(GROUP):
            yield Problem(f"{path}.{key}", f"{GROUP} belongs to the operator", "use a domain of your own")
        if values and not re.fullmatch(LABEL_VALUE, value):
            yield Problem(f"{path}.{key}", f"{value!r} is no label value", "use letters, digits, '-', '_' and '.'")


def _within(path: str, value: Duration, least: Duration, most: Duration) -> Problems:
    if not least <= value <= most:
        yield Problem(path, f"{value} is out of range", f"write {least} to {most}")
