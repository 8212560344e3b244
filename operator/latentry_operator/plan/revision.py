"""The name of a revision: a short hash of everything that makes its pods what they are."""

import hashlib
import json

from latentry_operator.api import defaults
from latentry_operator.api.latentmodel import LatentModelSpec

HASH_DIGITS = 8
"""32 bits. Revisions share a name only within one LatentModel, where a few exist at a time."""


def revision_name(model: str, spec: LatentModelSpec, digest: str) -> str:
    """``<model>-<8 hex digits>``.

    The hash covers the bundle's digest and the parts of the spec that reach the pods. It leaves out where the bundle
    lies (the digest says what it is), scaling, rollout and the objectives' shares: changing those replaces no pod.
    Fields at their default are left out too, so that a release that adds fields restarts nobody's pods.
    """
    template = {
        "digest": digest,
        "runtime": spec.runtime.model_dump(mode="json", exclude_defaults=True),
        "gpuPool": spec.placement.gpu_pool,
        "gpus": defaults.gpus(spec.placement),
        "latencyThresholds": sorted({objective.within.nanoseconds for objective in spec.slo.latency}),
        "monitoring": spec.monitoring.model_dump(mode="json", exclude_defaults=True),
        "workload": spec.workload,
        "pod": spec.pod.model_dump(mode="json", exclude_defaults=True),
    }
    quality = spec.slo.quality
    if quality and (bound := quality.model_dump(include={"reconstruction_error_within"}, exclude_defaults=True)):
        template["quality"] = bound
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return f"{model}-{hashlib.sha256(canonical.encode()).hexdigest()[:HASH_DIGITS]}"
