"""Suites beside the block ablation: attention alone, its backward, its parts, and a step of a
language model."""
