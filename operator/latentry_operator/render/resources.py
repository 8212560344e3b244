"""CPU, memory and devices of the containers."""

from latentry_operator.plan.cluster import Amounts, ClusterPlan
from latentry_operator.render.manifest import Manifest, present


def resources(amounts: Amounts) -> Manifest:
    """A container's resources as the settings give them."""
    return present(
        requests=present(cpu=amounts.cpu_request, memory=amounts.memory_request),
        limits=present(cpu=amounts.cpu_limit, memory=amounts.memory_limit),
    )


def triton_resources(plan: ClusterPlan) -> Manifest:
    """Triton's resources: the spec's, where it says nothing of CPU or memory the settings', and the devices."""
    asked, usual = plan.model.spec.runtime.resources, plan.settings.triton
    cpu_request, cpu_limit = _pair(asked.requests.cpu, asked.limits.cpu, usual.cpu_request, usual.cpu_limit)
    memory_request, memory_limit = _pair(
        asked.requests.memory, asked.limits.memory, usual.memory_request, usual.memory_limit
    )
    devices = {name: str(count) for name, count in plan.placement.devices.items()}
    found = resources(Amounts(cpu_request, memory_request, cpu_limit, memory_limit))
    # Kubernetes wants a device's request to equal its limit.
    return present(requests=found.get("requests", {}) | devices, limits=found.get("limits", {}) | devices)


def _pair(
    request: object | None, limit: object | None, usual_request: str | None, usual_limit: str | None
) -> tuple[str | None, str | None]:
    if request is None and limit is None:
        return usual_request, usual_limit
    # A limit alone is the request too, as the API server would have it.
    return str(limit if request is None else request), None if limit is None else str(limit)
