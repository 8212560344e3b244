"""GPUPools for tests of status."""

from collections.abc import Callable

import pytest

from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.parse import parse_resource


@pytest.fixture
def pool() -> Callable[..., GPUPool]:
    """``pool(max_devices=...)``."""

    def make(max_devices: int | None = None) -> GPUPool:
        spec = {"memoryPerDevice": "24Gi"} | ({"maxDevices": max_devices} if max_devices else {})
        data = {"apiVersion": "latentry.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "a10"}, "spec": spec}
        made = parse_resource(data, subject="pool")
        assert isinstance(made, GPUPool)
        return made

    return make
