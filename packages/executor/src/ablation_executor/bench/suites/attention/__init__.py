"""What the suites that measure attention have in common: inputs, references, limits, kernels."""
