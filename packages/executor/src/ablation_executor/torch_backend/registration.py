"""The backend's name in PyTorch's registry, where several threads may ask for it first at once.

PyTorch looks up the name, loads this package and registers what it has loaded, without a lock. Of
two threads the second would find the name registered, which is an error there.
"""

from __future__ import annotations

from typing import Any

NAME = "ablation"


class _Backends(dict[str, Any]):
    """Backends by name, of which this one can be registered again."""

    def __contains__(self, name: object) -> bool:
        return name != NAME and super().__contains__(name)


def allow_again() -> None:
    """Let PyTorch register this backend several times; while it is imported, other threads wait."""
    from torch._dynamo.backends import registry

    known = getattr(registry, "_COMPILER_FNS", None)
    if type(known) is dict:
        registry._COMPILER_FNS = _Backends(known)
