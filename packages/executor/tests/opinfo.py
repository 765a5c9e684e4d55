"""PyTorch's own samples of its ops, exported and run: right, or a clean ExportError.

    python packages/executor/tests/opinfo.py [--ops add tanh] [--samples 4] [--seed 1] [--special]

`torch.testing` has samples for each op of PyTorch: shapes, types, broadcasting, options. Each is
wrapped in a module, exported, compiled and compared with eager. The command prints the ops, the
samples, how many are right and refused, the reasons, and every wrong result or other exception.
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tally import Tally
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ablation_executor.exporter import supported_ops

DTYPES = (torch.float32, torch.int64, torch.bool)
#: A sum of huge numbers overflows or not by its order; these propagate whatever it is.
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40)
#: Of an infinite weight w these give x w + (b - mean w), which may be NaN; ours (x - mean) w + b.
BY_SCALE_AND_SHIFT = ("nn.functional.group_norm", "nn.functional.instance_norm")
#: Errors that a result may have, over the largest finite element of its reference.
TOLERANCE = 2e-5


class Call(nn.Module):
    """An op with arguments, of which the tensors are the arguments of forward."""

    def __init__(self, function: Any, arguments: Any) -> None:
        super().__init__()
        self.function = function
        self.leaves, self.spec = pytree.tree_flatten(arguments)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, keywords = pytree.tree_unflatten(leaves, self.spec)
        result = pytree.tree_leaves(self.function(*args, **keywords))
        return tuple(part for part in result if isinstance(part, Tensor))


def all_ops() -> list[Any]:
    """PyTorch's ops with samples."""
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def is_supported(op: Any) -> bool:
    """Whether export has a handler for an op's ATen name."""
    names = {overload.split(".")[1] for overload in supported_ops()}
    plain = op.name.rsplit(".", 1)[-1]
    return not {op.aten_name, plain, f"linalg_{plain}", f"special_{plain}"}.isdisjoint(names)


def samples_of(op: Any, dtype: torch.dtype, limit: int | None, seed: int) -> Iterator[Any]:
    """Modules of an op's samples without empty and sparse tensors, in an order of the seed."""
    torch.manual_seed(seed)
    made = [
        Call(op.op, ((sample.input, *sample.args), sample.kwargs)).eval()
        for sample in itertools.islice(op.sample_inputs("cpu", dtype), 200)
    ]
    full = [
        module
        for module in made
        if all(x.layout == torch.strided and x.numel() for x in module.tensors)
    ]
    for index in np.random.default_rng([seed, len(full)]).permutation(len(full))[:limit]:
        yield full[index]


def sprinkle(tensors: Sequence[Tensor], seed: int, name: str) -> tuple[Tensor, ...]:
    """Copies in which some elements of floats are NaN, infinite, zero or denormal."""
    random = np.random.default_rng(seed)
    copies = []
    for number, tensor in enumerate(tensors):
        copy = tensor.detach().clone()
        if copy.dtype == torch.float32:
            flat = copy.reshape(-1)
            is_weight = number > 0 and name in BY_SCALE_AND_SHIFT
            choices = [x for x in SPECIAL if not is_weight or not math.isinf(x)]
            for place in random.integers(flat.numel(), size=1 + flat.numel() // 4):
                flat[place] = random.choice(choices)
            copy = flat.reshape(copy.shape)
        copies.append(copy)
    return tuple(copies)


def _equals(a: Any, b: Any) -> Any:
    return (a == b) | (np.isnan(a) & np.isnan(b))


def difference(got: Any, want: Tensor, exact: Tensor) -> str:
    """How a result differs from eager's, whose value in float64 is `exact`; "" if it is right."""
    if tuple(got.shape) != tuple(want.shape):
        return f"shape {got.shape}, expected {tuple(want.shape)}"
    if str(got.dtype) != str(want.dtype).removeprefix("torch."):
        return f"dtype {got.dtype}, expected {want.dtype}"
    if want.dtype != torch.float32:
        return "" if np.array_equal(got, want.numpy()) else f"{got}, expected {want}"
    mine, theirs, ideal = got.astype(np.float64), want.double().numpy(), exact.double().numpy()
    finite = np.isfinite(theirs)
    # Eager's oneDNN has NaN for gelu(infinity), and none of it in float64.
    same = _equals(mine, theirs) | _equals(mine, ideal)
    if not same[~finite].all() or not np.isfinite(mine[finite]).all():
        return f"{got}, expected {want}"
    if not finite.any():
        return ""
    ideal = np.where(np.isfinite(ideal), ideal, theirs)
    scale = np.abs(theirs[finite]).max()
    limit = 10 * np.abs(theirs - ideal)[finite].max() + TOLERANCE * scale + 1e-35
    error = np.abs(mine - ideal)[finite].max()
    return "" if error <= limit else f"error {error:.2g}, limit {limit:.2g}: {got}, expected {want}"


def ranges_of(tensors: Sequence[Tensor]) -> dict[str, tuple[int, int]]:
    """The numbers from the lowest to the highest of each integer tensor, by its input's name."""
    return {
        f"tensors_{index}": (int(tensor.min()), int(tensor.max()))
        for index, tensor in enumerate(tensors)
        if tensor.dtype == torch.int64
    }


def in_float64(module: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
    """The results of eager in float64, None where it has none."""
    wide = [part.double() if part.dtype == torch.float32 else part for part in tensors]
    try:
        results: tuple[Tensor, ...] = module(*wide)
    except Exception:
        return None
    return results


def check(module: Call, tensors: Sequence[Tensor], tally: Tally, op: str, name: str) -> None:
    """Export, run and compare one sample."""
    try:
        with torch.no_grad():
            want = module(*(part.detach().clone() for part in tensors))
    except Exception:
        return  # a sample that eager itself refuses
    exact = in_float64(module, tensors) or want

    def differs(results: Sequence[Any]) -> str:
        triples = zip(results, want, exact, strict=True)
        return next((words for each in triples if (words := difference(*each))), "")

    tally.check(op, name, module, tensors, ranges_of(tensors), differs)


def run(
    ops: Sequence[Any], limit: int | None, seed: int, special: bool = False, is_long: bool = False
) -> Tally:
    """Check up to `limit` samples of each op and type, those of floats with `special` ones too.

    A long run prints its counts before each op.
    """
    tally = Tally()
    for number, op in enumerate(ops):
        if is_long:
            print(f"op {number} of {len(ops)}, {op.name}: {tally}", flush=True)
        for dtype in DTYPES:
            if dtype not in op.supported_dtypes("cpu"):
                continue
            name = f"{op.name}{f'.{op.variant_test_name}' if op.variant_test_name else ''}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for count, module in enumerate(samples_of(op, dtype, limit, seed)):
                    tensors = module.tensors
                    check(module, tensors, tally, op.name, f"{name} {dtype} sample {count}")
                    if special and dtype == torch.float32:
                        sprinkled = sprinkle(tensors, seed + count, op.name)
                        check(module, sprinkled, tally, op.name, f"{name} special sample {count}")
    return tally


def main() -> int:
    """Run what the command line asks for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", nargs="*", help="names of ops; default: all supported ones")
    parser.add_argument("--all", action="store_true", help="all of PyTorch's ops")
    parser.add_argument("--samples", type=int, help="samples of each op and type; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--special", action="store_true", help="NaN, infinity and zeros too")
    given = parser.parse_args()
    chosen = all_ops()
    if given.ops:
        chosen = [op for op in chosen if op.name in given.ops]
    elif not given.all:
        chosen = [op for op in chosen if is_supported(op)]
    return run(chosen, given.samples, given.seed, given.special, is_long=True).report()


if __name__ == "__main__":
    raise SystemExit(main())
