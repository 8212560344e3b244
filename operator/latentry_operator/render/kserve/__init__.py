"""The KServe workload: an InferenceService in Standard mode with a ServingRuntime of its own. Needs KServe 0.16."""
