"""PromQL of the dashboards: what is selected, and names, from the places that rules and code take them from."""

from latentry_operator.slo import names
from latentry_serving.contract import metrics
from latentry_serving.contract.metrics import SERVER_FAULTS, CallKind

# Variables match with =~ and "all" is .* which a series without the label matches too: on one machine there is no
# namespace.
_NAMESPACE = f'{names.NAMESPACE}=~"$namespace"'
MODEL = f'{_NAMESPACE},{metrics.MODEL}=~"$model"'
"""Of recorded series and the operator's."""
VERSION = f'{MODEL},{metrics.VERSION}=~"$version"'
"""Of the tap's."""
TARGET = f'{_NAMESPACE},{names.TARGET_MODEL}=~"$model",{names.TARGET_MODEL}!=""'
"""Of series without labels of ours: Triton's, those of the tap's process."""
RATE = "$__rate_interval"
LONG = "30m"
"""Of what is rare or uneven: samples, costs."""
INFERENCE = f'{metrics.OPERATION}!="{metrics.MANAGEMENT_OPERATION}"'
UNARY = f'{metrics.KIND}="{CallKind.UNARY}"'
FAULTS = f'{metrics.OUTCOME}=~"{"|".join(sorted(SERVER_FAULTS))}"'

MODEL_DEVICES = "latentry_operator_model_devices"
POOL_PRICE = "latentry_operator_gpu_pool_price_per_device_hour"
"""Of the operator; a test holds these against what it exports."""

PODS = f"group by (namespace, pod) ({metrics.CONNECTIONS}{{{VERSION}}})"
"""The pods of the chosen models and versions: what a tap exports, whatever its configuration."""


def tap(name: str, *matchers: str) -> str:
    """A metric of the tap, of the chosen models."""
    return f"{name}{{{','.join((VERSION, *matchers))}}}"


def of_model(name: str, *matchers: str) -> str:
    """A recorded series, or one of the operator's."""
    return f"{name}{{{','.join((MODEL, *matchers))}}}"


def of_target(name: str) -> str:
    """A series that only its target names the model of."""
    return f"{name}{{{TARGET}}}"


def rate(series: str, window: str = RATE) -> str:
    """Per second."""
    return f"rate({series}[{window}])"


def total(series: str, *by: str) -> str:
    """Summed over everything but some labels."""
    return f"sum by ({', '.join(by)}) ({series})" if by else f"sum({series})"


def requests(*matchers: str, by: tuple[str, ...] = ()) -> str:
    """Inference per second."""
    return total(rate(tap(metrics.REQUESTS_TOTAL, INFERENCE, *matchers)), *by)


def latency(share: float, *by: str, metric: str = metrics.REQUEST_DURATION_SECONDS, kind: str = UNARY) -> str:
    """Seconds within which a share of the calls were answered."""
    buckets = total(rate(tap(f"{metric}_bucket", kind)), "le", *by)
    return f"histogram_quantile({share}, {buckets})"


def ratio(part: str, whole: str) -> str:
    """Part of whole, nothing without any."""
    return f"{part} / ({whole} > 0)"


def in_pods(series: str) -> str:
    """A container metric, of the pods of the chosen models only."""
    return f"{series} * on (namespace, pod) group_left () {PODS}"


def container(name: str) -> str:
    """A metric of cAdvisor, of real containers."""
    return f'{name}{{{_NAMESPACE},container!="",container!="POD"}}'


def triton_ratio(part: str, whole: str, factor: str = "") -> str:
    """Of Triton's counters, per model of Triton's."""
    parts, wholes = (total(rate(of_target(name)), metrics.MODEL) for name in (part, whole))
    return ratio(parts, wholes) + factor


def triton_rate(name: str) -> str:
    """Of one of Triton's counters, per model of Triton's."""
    return total(rate(of_target(name)), metrics.MODEL)


def cost_of_a_million() -> str:
    """Price of the devices per hour over requests per hour, in the currency of the pool."""
    price = f"{of_model(MODEL_DEVICES)} * on (gpu_pool) group_left (currency) {POOL_PRICE}"
    per_hour = total(price, names.NAMESPACE, metrics.MODEL, "currency")
    served = total(rate(of_model(metrics.REQUESTS_TOTAL, INFERENCE), LONG), names.NAMESPACE, metrics.MODEL)
    return f"1e6 * {per_hour} / on (namespace, model) group_left () (3600 * {served} > 0)"
