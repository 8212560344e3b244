"""The data plane: bundles, the Triton runner, the tap and the numbers they produce."""
