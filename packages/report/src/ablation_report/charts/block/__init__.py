"""Charts of the block alone."""
