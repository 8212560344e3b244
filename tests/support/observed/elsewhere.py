"""What this machine has not, and why; a sample of each as its exporter writes it, so that their panels have data."""

from observed.models import NAMESPACE

NOT_HERE = {
    "nv_gpu_utilization": "no GPU; of Triton",
    "nv_gpu_memory_used_bytes": "no GPU; of Triton",
    "nv_gpu_memory_total_bytes": "no GPU; of Triton",
    "nv_gpu_power_usage": "no GPU; of Triton",
    "container_cpu_usage_seconds_total": "no kubelet; of its cAdvisor",
    "container_memory_working_set_bytes": "no kubelet; of its cAdvisor",
    "kube_pod_container_status_restarts_total": "no cluster; of kube-state-metrics",
    "latentry_model_loaded": "models are loaded by the tap in a pod only, where Triton has the bundle's own backend",
}
"""Metric -> why a scrape of this machine has no sample of it."""

_GPU = f'{{gpu_uuid="GPU-1",namespace="{NAMESPACE}",pod="healthy-0",latentry_dev_model="healthy"}}'
_CONTAINER = f'{{namespace="{NAMESPACE}",pod="healthy-0",container="tap"}}'
_LOADED = f'{{namespace="{NAMESPACE}",model="healthy",version="7",operation="encode"}}'

EXPOSITION = "\n".join(
    [
        f"nv_gpu_utilization{_GPU} 0.5",
        f"nv_gpu_memory_used_bytes{_GPU} 1e9",
        f"nv_gpu_memory_total_bytes{_GPU} 24e9",
        f"nv_gpu_power_usage{_GPU} 70",
        f"container_cpu_usage_seconds_total{_CONTAINER} 12.5",
        f"container_memory_working_set_bytes{_CONTAINER} 2e8",
        f"kube_pod_container_status_restarts_total{_CONTAINER} 1",
        f"latentry_model_loaded{_LOADED} 1",
        "",
    ]
)
