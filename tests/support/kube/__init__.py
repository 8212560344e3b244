"""A real Kubernetes control plane for tests, and a stand-in for KServe's controller and the kubelet."""

from kube.api import Api, ApiError, Kind, Obj, kinds
from kube.assets import Assets, NoControlPlane, find_assets
from kube.behaviour import CRASH, HANG, NO_IMAGE, NO_ROOM, READY, Behaviour, slow
from kube.control_plane import ControlPlane
from kube.crds import install_crds, our_crds, upstream_crds
from kube.proxy import FaultPlan, FaultProxy
from kube.stand_in import StandIn

__all__ = [
    "CRASH",
    "HANG",
    "NO_IMAGE",
    "NO_ROOM",
    "READY",
    "Api",
    "ApiError",
    "Assets",
    "Behaviour",
    "ControlPlane",
    "FaultPlan",
    "FaultProxy",
    "Kind",
    "NoControlPlane",
    "Obj",
    "StandIn",
    "find_assets",
    "install_crds",
    "kinds",
    "our_crds",
    "slow",
    "upstream_crds",
]
