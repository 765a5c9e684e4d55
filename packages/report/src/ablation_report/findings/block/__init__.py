"""Findings of the block: what its ladder, runtimes of others and published rows say."""
