"""How the bundle reaches a pod without KServe: mounted from a claim, or put into an empty volume by an init container.

Schemes and layout are those of KServe's storage initializer and modelcars, so that one address works in both workloads.
"""

from dataclasses import dataclass

from latentry_operator.plan.cluster import BUNDLE_DIR, ClusterPlan
from latentry_operator.render.containers import container_security
from latentry_operator.render.manifest import Manifest, present
from latentry_operator.render.resources import resources

_VOLUME = "bundle"
_MOUNT: Manifest = {"name": _VOLUME, "mountPath": BUNDLE_DIR, "readOnly": True}
_TMP = "storage-tmp"
_MODELCAR_DIR = "/models"
"""Where an image that carries a model has it, by KServe's convention."""


@dataclass(frozen=True, slots=True)
class BundleSource:
    """What a pod needs for its bundle.

    Attributes:
        volume: the volume that holds it.
        mount: how the serving containers see it, read-only.
        init_containers: what fills the volume.
        more_volumes: what the init containers need beside it.
    """

    volume: Manifest
    mount: Manifest
    init_containers: tuple[Manifest, ...] = ()
    more_volumes: tuple[Manifest, ...] = ()


def bundle_source(plan: ClusterPlan) -> BundleSource:
    """By the scheme of the bundle's address."""
    scheme, _, rest = plan.model.spec.bundle.uri.partition("://")
    empty: Manifest = {"name": _VOLUME, "emptyDir": {}}
    match scheme:
        case "pvc":
            return _claim(rest)
        case "oci":
            return BundleSource(empty, _MOUNT, (_copied(plan, rest),))
        case _:
            return BundleSource(empty, _MOUNT, (_fetched(plan),), ({"name": _TMP, "emptyDir": {}},))


def _claim(rest: str) -> BundleSource:
    claim, _, path = rest.partition("/")
    volume = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return BundleSource(volume, _MOUNT | present(subPath=path.strip("/") or None))


def _copied(plan: ClusterPlan, image: str) -> Manifest:
    return {
        "name": "modelcar",
        "image": image,
        "command": ["cp", "-r", f"{_MODELCAR_DIR}/.", f"{BUNDLE_DIR}/"],
        "resources": resources(plan.settings.storage),
        "securityContext": container_security(),
        "volumeMounts": [{"name": _VOLUME, "mountPath": BUNDLE_DIR}],
    }


def _fetched(plan: ClusterPlan) -> Manifest:
    bundle = plan.model.spec.bundle
    secret = bundle.credentials_secret
    return {
        "name": "storage-initializer",
        "image": plan.settings.storage_image,
        "args": [bundle.uri, BUNDLE_DIR],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the container's own emptyDir
        **present(envFrom=None if secret is None else [{"secretRef": {"name": secret}}]),
        "resources": resources(plan.settings.storage),
        "securityContext": container_security(),
        "volumeMounts": [{"name": _VOLUME, "mountPath": BUNDLE_DIR}, {"name": _TMP, "mountPath": "/tmp"}],  # noqa: S108
    }
