"""Print what the backend decides by here: `python -m ablation_executor.torch_backend`."""

from __future__ import annotations

from .entry import costs

if __name__ == "__main__":
    found = costs()
    print(f"call of a part: {found.entry_ns / 1000:.1f} us")
    print(f"op of PyTorch: {found.dispatch_ns / 1000:.1f} us")
