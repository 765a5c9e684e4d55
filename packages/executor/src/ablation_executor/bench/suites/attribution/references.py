"""The programs that stand outside the lattice of a case: where its base and its top stand."""

from __future__ import annotations

from dataclasses import replace

from ...case import Case
from ...suite import Variant
from ..block import SUITE as BLOCK
from ..block import BlockSuite
from ..block.ladder import BY_NAME as BLOCK_LADDER
from ..model import SUITE as MODEL
from ..model import ModelSuite
from ..model import ladder as module_ladder
from ..model.cases import is_of_module
from .lattice import SIZE

_BLOCK = ("torch-naive", "torch-sdpa", "beyond-default")
_MODULE = (module_ladder.EAGER, module_ladder.DEFAULT)
NAMES = (*_BLOCK, *_MODULE)


def references_of(case: Case) -> tuple[str, ...]:
    """Return the names of these programs of a case."""
    return _MODULE if is_of_module(case) else _BLOCK


def reference_variants() -> list[Variant]:
    """Return these programs, which are no points of the lattice."""
    modules = {variant.name: variant for variant in module_ladder.variants()}
    found = [BLOCK_LADDER[name].variant() for name in _BLOCK] + [modules[name] for name in _MODULE]
    return [replace(each, parent=None, changed=None, group="For comparison") for each in found]


def suite_of(case: Case) -> BlockSuite | ModelSuite:
    """Return the suite that knows the model of a case: the block's, or that of modules."""
    return MODEL if is_of_module(case) else BLOCK


def model_of(case: Case) -> Case:
    """Return the case of that suite with the same model."""
    sizes = tuple((name, value) for name, value in case.sizes if name != SIZE)
    return replace(case, suite=suite_of(case).name, sizes=sizes)
