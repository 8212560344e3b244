"""The planner: a LatentModel and its bundle in, one revision out."""

from latentry_operator.api import defaults
from latentry_operator.api.latentmodel import LatentModel
from latentry_operator.api.objectives import Monitoring, QualityObjective, Slo
from latentry_operator.plan.mismatch import mismatches
from latentry_operator.plan.revision import revision_name
from latentry_operator.plan.types import OperationPlan, PlacementPlan, Plan, PlanSettings
from latentry_serving.contract.errors import InvalidInput
from latentry_serving.contract.manifest import BundleManifest
from latentry_serving.contract.tap_config import DriftSettings, ProbeSettings, QualitySettings, Sampling, TapConfig


def plan(model: LatentModel, bundle: BundleManifest, settings: PlanSettings) -> Plan:
    """What must run so that ``model`` is served from ``bundle``. The same arguments give an equal plan.

    Raises:
        InvalidInput: spec and bundle contradict each other, every point named.
    """
    spec, name = model.spec, model.metadata.name
    if problems := tuple(mismatches(spec, bundle)):
        raise InvalidInput(f"LatentModel {name}", problems)
    return Plan(
        model=name,
        namespace=model.metadata.namespace,
        revision=revision_name(name, spec, bundle.digest),
        bundle_uri=spec.bundle.uri,
        bundle_bytes=bundle.total_bytes,
        version=bundle.version,
        digest=bundle.digest,
        operations=tuple(
            OperationPlan(
                operation=operation,
                model=contract.model,
                instances=spec.runtime.instances,
                max_batch_size=spec.runtime.max_batch_size,
                max_queue_delay=spec.runtime.max_queue_delay,
            )
            for operation, contract in bundle.contract.operations.items()
        ),
        placement=PlacementPlan(spec.placement.gpu_pool, defaults.gpus(spec.placement), spec.runtime.resources),
        tap=_tap(model, bundle, settings.tap),
    )


def latency_buckets(bounds: tuple[float, ...], slo: Slo) -> tuple[float, ...]:
    """``bounds`` and every objective's ``within``, both upper bounds in seconds, ascending.

    An objective is counted exactly only where a bucket ends at its threshold.
    """
    return tuple(sorted({*bounds, *(objective.within.seconds for objective in slo.latency)}))


def probes(base: ProbeSettings, monitoring: Monitoring) -> ProbeSettings:
    """The tap's golden probes, as often as the spec says."""
    return base.model_copy(update={"every_seconds": monitoring.golden.every.seconds})


def sampling(base: Sampling, monitoring: Monitoring) -> Sampling:
    """How much of the traffic the tap looks into."""
    given = monitoring.sampling
    return base.model_copy(update={"max_per_second": given.max_per_second, "recent_inputs": given.live_inputs})


def drift(base: DriftSettings, monitoring: Monitoring, replicas: int) -> DriftSettings:
    """How the tap holds the traffic against the bundle's profile.

    Args:
        replicas: taps that share the false-alarm budget. The most there may be: with fewer, false alarms are rarer.
    """
    return base.model_copy(
        update={
            "window": monitoring.drift.window,
            "expected_run_time_seconds": monitoring.drift.expected_run_time.seconds,
            "replicas": replicas,
        }
    )


def quality(base: QualitySettings, objective: QualityObjective | None) -> QualitySettings:
    """Which reconstructions are good. The objective's shares stay with the rules: changing them replaces no pod."""
    if objective is None:
        return base
    return base.model_copy(update={"reconstruction_error_within": objective.reconstruction_error_within})


def _tap(model: LatentModel, bundle: BundleManifest, base: TapConfig) -> TapConfig:
    return base.model_copy(
        update={
            "model": model.metadata.name,
            "version": bundle.version,
            "digest": bundle.digest,
            "operations": bundle.operations_by_model,
            "embedding_space": bundle.contract.embedding_space,
            "sampling": sampling(base.sampling, model.spec.monitoring),
            "drift": drift(base.drift, model.spec.monitoring, replicas=1),
            "quality": quality(base.quality, model.spec.slo.quality),
            "latency_buckets_seconds": latency_buckets(base.latency_buckets_seconds, model.spec.slo),
            "probes": probes(base.probes, model.spec.monitoring),
        }
    )
