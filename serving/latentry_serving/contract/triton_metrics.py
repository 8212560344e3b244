"""Names of Triton's own metrics that dashboards use: the only ones that the PodMonitor keeps.

Source: Triton Inference Server, docs/user_guide/metrics.md. Triton's labels are ``model`` (one per operation of the
bundle) and ``version`` (always 1 here), of GPUs ``gpu_uuid``; which LatentModel a series is of, the pod's labels tell.
"""

REQUEST_SUCCESS = "nv_inference_request_success"
INFERENCE_COUNT = "nv_inference_count"
"""Samples."""
EXEC_COUNT = "nv_inference_exec_count"
"""Batches."""
QUEUE_DURATION_US = "nv_inference_queue_duration_us"
COMPUTE_INFER_DURATION_US = "nv_inference_compute_infer_duration_us"
GPU_UTILIZATION = "nv_gpu_utilization"
GPU_MEMORY_TOTAL_BYTES = "nv_gpu_memory_total_bytes"
GPU_MEMORY_USED_BYTES = "nv_gpu_memory_used_bytes"
GPU_POWER_USAGE = "nv_gpu_power_usage"
"""Watts."""

PER_MODEL = (REQUEST_SUCCESS, INFERENCE_COUNT, EXEC_COUNT, QUEUE_DURATION_US, COMPUTE_INFER_DURATION_US)
PER_GPU = (GPU_UTILIZATION, GPU_MEMORY_TOTAL_BYTES, GPU_MEMORY_USED_BYTES, GPU_POWER_USAGE)
KEPT = (*PER_MODEL, *PER_GPU)
