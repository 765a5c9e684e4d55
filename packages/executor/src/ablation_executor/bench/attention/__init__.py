"""Attention alone: PyTorch's and ours over sequence length, heads, mask and threads."""
