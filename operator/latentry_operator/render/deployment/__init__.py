"""The Deployment workload: the same pod for clusters without KServe."""
