"""The block ablation benchmark: every variant, checked first, then timed side by side."""
