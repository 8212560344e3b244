"""The tap's configuration."""

import hashlib

import yaml

from latentry_operator.api.base import GROUP
from latentry_operator.plan.cluster import ClusterPlan
from latentry_operator.render.manifest import Manifest, revision_object
from latentry_serving.contract.tap_config import TapConfig

FILE = "tap.yaml"
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's, a fraction of the time: every pass over a model renders this."""
CONFIG_ANNOTATION = f"{GROUP}/tap-config"
"""Of pods: a hash of the configuration they started with. The tap reads it once, so a change must replace pods; but for
how many replicas share the false-alarm budget, which waits for the next reason: scaling must not restart pods."""


def config_map(plan: ClusterPlan) -> Manifest:
    """The ConfigMap that the tap's container mounts."""
    return revision_object(plan, "v1", "ConfigMap", data={FILE: _tap_yaml(plan.tap)})


def config_hash(plan: ClusterPlan) -> str:
    """A hash of the tap's configuration."""
    alone = plan.tap.drift.model_copy(update={"replicas": 1})
    return hashlib.sha256(_tap_yaml(plan.tap.model_copy(update={"drift": alone})).encode()).hexdigest()[:16]


def _tap_yaml(tap: TapConfig) -> str:
    # What differs from the tap's own defaults only: an image of another version must not meet fields it does not know.
    config = tap.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    return yaml.dump(config, Dumper=_Dumper, sort_keys=True)
