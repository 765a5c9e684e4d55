"""`python -m ablation_kernels`: what this wheel is, uses and can reach on this machine.

`python -m ablation_kernels softmax 6144x512` times every kernel of an op side by side;
`python -m ablation_kernels strassen 1024x4096` maps when Strassen's products pay, over every M, N
and K of these sizes; `--json FILE` keeps the map.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ablation_kernels import get_num_threads, strassen
from ablation_kernels.table import build_info, measure_ceilings, op_table, set_num_threads
from ablation_kernels.timing import time_kernels


def print_wheel() -> None:
    """Print the build, the op table and the machine's measured ceilings."""
    for key, value in build_info().items():
        print(f"{key:16} {value}")
    print()
    width = max(len(kernel.name) for kernel in op_table())
    for kernel in op_table():
        print(f"{kernel.name:{width}}  {kernel.provider:22}  {kernel.idea}")
    ceilings = measure_ceilings()
    flops, memory = ceilings.multiply_add_flops_per_s / 1e9, ceilings.memory_bytes_per_s / 1e9
    print(f"\nceilings on {ceilings.threads} threads:")
    print(f"{flops:.0f} GFLOP/s multiply-add ({ceilings.provider}), {memory:.0f} GB/s memory")
    print(f"{ceilings.fork_join_ns / 1e3:.2f} us for a fork-join")


def print_times(op: str, shape: tuple[int, ...], rounds: int) -> None:
    """Print minimum, median and the ratio to the op's first kernel."""
    times = time_kernels(op, shape, rounds)
    width = max(len(time.kernel) for time in times)
    print(f"{'':{width}}  {'min us':>10}  {'median us':>10}  {'first / this':>12}")
    for time in times:
        ratio = f"{times[0].min_ns / time.min_ns:.2f}x"
        print(
            f"{time.kernel:{width}}  {time.min_ns / 1e3:10.1f}  {time.median_ns / 1e3:10.1f}  "
            f"{ratio:>12}"
        )


def print_map(sizes: tuple[int, ...], rounds: int, file: Path | None) -> None:
    """Print the times of Strassen's products over the packed one's, as measured and as expected;
    write both into a file, if one is given."""
    products = []
    print("time over the packed product's, b a constant; error over the packed product's")
    print(f"{'M':>6} {'N':>6} {'K':>6}  {'packed us':>10}  {'GFLOP/s':>7}", end="")
    print("  one  expected  error    two  expected  error  chosen")
    for found in strassen.measure_map(sizes, rounds):
        m, n, k, packed_ns = found.m, found.n, found.k, found.times_ns[0]
        print(
            f"{m:6} {n:6} {k:6}  {packed_ns / 1e3:10.1f}  {2 * m * n * k / packed_ns:7.0f}", end=""
        )
        for levels in (1, 2):
            expected = strassen.expected_ratio(m, n, k, levels)
            error = found.errors[levels] / found.errors[0]
            print(f"  {found.ratio(levels):5.3f}  {expected:6.3f}  {error:5.1f}", end="")
        chosen = strassen.kernel_for(m, n, k) or strassen.PACKED
        print(f"  {chosen}", flush=True)
        expected_ratios = [strassen.expected_ratio(m, n, k, levels) for levels in (1, 2)]
        products.append(asdict(found) | {"expected": expected_ratios, "chosen": chosen})
    if file is not None:
        facts = {"simd": build_info()["simd"], "threads": get_num_threads(), "rounds": rounds}
        file.write_text(json.dumps({**facts, "products": products}) + "\n")


def shape_of(text: str) -> tuple[int, ...]:
    """ "6144x512" as (6144, 512)."""
    return tuple(int(size) for size in text.split("x"))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ablation_kernels", description=__doc__)
    parser.add_argument(
        "op", nargs="?", help="an op of the table, or strassen; without it, the wheel itself"
    )
    parser.add_argument("shape", nargs="?", type=shape_of, help="of the first input: 6144x512")
    parser.add_argument("--threads", type=int, help="default: the cores of this process")
    parser.add_argument("--rounds", type=int, default=20, help="calls of each kernel (20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="of strassen: keep the map")
    options = parser.parse_args(arguments)
    if options.json is not None and options.op != "strassen":
        parser.error("--json is for the op 'strassen' alone")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; accepted: 1 or more")
    try:
        if options.threads is not None:
            set_num_threads(options.threads)
        if options.op is None:
            print_wheel()
        elif options.shape is None:
            parser.error("the following argument is required: shape, for example 6144x512")
        elif options.op == "strassen":
            print_map(options.shape, options.rounds, options.json)
        else:
            print_times(options.op, options.shape, options.rounds)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
