"""Fixtures for tests on a real Kubernetes API server; see tests/support/kube."""

from kube.fixtures import (
    api,
    control_plane,
    kube_assets,
    namespace,
    pytest_collection_finish,
    pytest_terminal_summary,
    stand_in,
)

__all__ = [
    "api",
    "control_plane",
    "kube_assets",
    "namespace",
    "pytest_collection_finish",
    "pytest_terminal_summary",
    "stand_in",
]
