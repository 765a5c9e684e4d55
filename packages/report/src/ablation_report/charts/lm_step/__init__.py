"""Charts of a step of training."""
