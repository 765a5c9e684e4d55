"""timm, imported without torchvision.

Its vision transformers need two things that ask for torchvision: the constants of `timm.data`,
whose other modules read images, and the name of a class of torchvision's in a table of norms.
Where torchvision is not installed, both are stood in for while timm is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# The hub of weights is asked for nothing
os.environ["HF_HUB_OFFLINE"] = "1"

_NAMES = ("torchvision", "torchvision.ops", "torchvision.ops.misc")


class FrozenBatchNorm2d:
    """The name of torchvision's class; no vision transformer here makes one."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("FrozenBatchNorm2d needs torchvision, which is not installed")


def load_timm() -> Any:
    """Import timm with its layers and return it."""
    stands_in = importlib.util.find_spec("torchvision") is None and "timm" not in sys.modules
    if stands_in:
        _put_constants_for_data()
        sys.modules |= {name: ModuleType(name) for name in _NAMES}
        vars(sys.modules[_NAMES[-1]])["FrozenBatchNorm2d"] = FrozenBatchNorm2d
    try:
        importlib.import_module("timm.layers")
        return importlib.import_module("timm")
    finally:
        for name in _NAMES if stands_in else ():
            del sys.modules[name]


def _put_constants_for_data() -> None:
    """Make `timm.data` a package of its constants."""
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        raise ImportError("timm is not installed: pip install --no-deps timm")
    folder = Path(found.origin).parent / "data"
    spec = importlib.util.spec_from_file_location("timm.data.constants", folder / "constants.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} has no constants.py")
    constants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(constants)
    data = ModuleType("timm.data")
    data.__path__ = [str(folder)]
    named = {name: value for name, value in vars(constants).items() if name.isupper()}
    vars(data).update(named, constants=constants)
    sys.modules |= {"timm.data": data, "timm.data.constants": constants}
