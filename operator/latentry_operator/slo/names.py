"""Names of recorded series and alerts, and of what they read of the operator: here rules, dashboards, runbooks agree.

Recorded series carry ``namespace`` (where there is one), ``model`` and ``slo``; no version: an objective is the
model's, and its versions share one budget. Ratios are shares between 0 and 1.
"""

from enum import StrEnum

from latentry_serving.contract.units import Duration

ERRORS_RATIO_PREFIX = "latentry:slo_errors:ratio_rate"
"""Share of events that missed the objective, over the window that ends the name; absent without events."""
EVENTS_RATE = "latentry:slo_events:rate5m"
"""Events that count, per second over 5 minutes."""
ERROR_EVENTS_RATE = "latentry:slo_error_events:rate5m"
"""Those of them that missed the objective, per second over 5 minutes."""
OBJECTIVE = "latentry:slo_objective:ratio"
"""Share of events that must be good."""
PERIOD_SECONDS = "latentry:slo_period:seconds"
"""The rolling window of the objective."""
ERRORS_RATIO_PERIOD = "latentry:slo_errors:ratio_period"
"""Share of events that missed the objective over the whole period, whatever its length."""
BUDGET_REMAINING = "latentry:slo_error_budget_remaining:ratio"
"""What is left of the period's error budget: 1 untouched, 0 used up, negative beyond."""
BURN_RATE = "latentry:slo_burn_rate:ratio"
"""How many times faster than the objective allows errors come, over the window of the label ``window``: at 1 the
budget lasts exactly the period. Windows: 5m, 1h, and the long ones of the alerts (1h, 6h, 1d, 3d for 30d)."""

STANDARD_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Recorded for every objective whose period is at least as long, beside the windows that its alerts read."""

MODEL_CONDITION = "latentry_operator_model_condition"
"""Of the operator: 1 for a condition's present status; labels namespace, model, type, status."""
ROLLOUT_STATE = "latentry_operator_model_rollout_state"
"""Of the operator: 1 for the present reason of the condition Progressing; labels namespace, model, reason."""
ROLLOUT_SINCE = "latentry_operator_model_rollout_since_timestamp_seconds"
"""Of the operator: Unix time since which that is so; labels namespace, model."""
REPLICAS = "latentry_operator_model_replicas"
"""Of the operator: labels namespace, model, state (desired, ready)."""
POOL_DEVICES = "latentry_operator_gpu_pool_devices"
"""Of the operator: labels gpu_pool, state (limit, in_use)."""
LEADER = "latentry_operator_leader"
"""Of the operator: 1 in the replica that leads."""

NAMESPACE = "namespace"
MODEL = "model"
VERSION = "version"
SLO = "slo"
WINDOW = "window"
SEVERITY = "severity"
TARGET_MODEL = "latentry_dev_model"
"""The LatentModel's name on the scrape target itself, for series that carry no model of their own (``up``,
connections): what Prometheus makes of the pod label ``latentry.dev/model``. On one machine the scrape configuration
sets it."""

AVAILABILITY = "availability"
QUALITY = "quality"
ANOMALY_RATE = "anomaly-rate"


def errors_ratio(window: Duration | str) -> str:
    """The recorded error ratio over a window: ``latentry:slo_errors:ratio_rate1h``."""
    return f"{ERRORS_RATIO_PREFIX}{window}"


def latency_slo(within: Duration) -> str:
    """The ``slo`` label of a latency objective: ``latency-50ms``."""
    return f"latency-{within}"


class Severity(StrEnum):
    """Whom an alert reaches."""

    PAGE = "page"
    """Somebody is woken: users are hurt now."""
    TICKET = "ticket"
    """Somebody looks at it on the next working day."""


class AlertName(StrEnum):
    """Every alert; docs/runbooks/ has a page for each."""

    ERROR_BUDGET_BURN = "LatentryErrorBudgetBurn"
    """Errors, slow answers or bad reconstructions come too fast for the budget; labels ``slo`` and ``window``."""
    MODEL_UNAVAILABLE = "LatentryModelUnavailable"
    """Replicas should run and none is ready: no request reaches a tap, so no error is counted."""
    NO_DATA = "LatentryNoData"
    """Replicas should run and Prometheus has no series of any tap."""
    TAP_DOWN = "LatentryTapDown"
    """One tap cannot be scraped."""
    CONNECTIONS_REFUSED = "LatentryConnectionsRefused"
    """Clients are turned away at the tap's connection limit, which no error budget counts."""
    NON_FINITE_OUTPUTS = "LatentryNonFiniteOutputs"
    GOLDEN_PROBE_FAILING = "LatentryGoldenProbeFailing"
    MODEL_UNHEALTHY = "LatentryModelUnhealthy"
    DRIFT = "LatentryDrift"
    SAMPLES_LOST = "LatentrySamplesLost"
    OPAQUE_CONNECTIONS = "LatentryOpaqueConnections"
    BUNDLE_REFUSED = "LatentryBundleRefused"
    ROLLOUT_STUCK = "LatentryRolloutStuck"
    GPU_POOL_EXHAUSTED = "LatentryGPUPoolExhausted"
    """Of the operator's rules, not a model's; label ``gpu_pool``."""
    OPERATOR_DOWN = "LatentryOperatorDown"
    """Of the operator's rules: no operator leads."""
