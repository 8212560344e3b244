"""The operator as a process: queue, reconcilers, leadership, health, metrics, logs."""
