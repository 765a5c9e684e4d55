"""What this wheel is, uses and can reach on this machine, and how fast its kernels are."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

from ablation_kernels import get_num_threads, strassen
from ablation_kernels.calls import Call, make_call, parse_shapes
from ablation_kernels.limits import available_bytes
from ablation_kernels.machine import busy_warning, other_load
from ablation_kernels.record import (
    Record,
    all_calls,
    expected_s,
    measure,
    measure_all,
    time_left_s,
    write,
)
from ablation_kernels.table import build_info, measure_ceilings, op_table, set_num_threads
from ablation_kernels.tables import (
    call_lines,
    fact_lines,
    kernel_lines,
    map_line,
    record_lines,
    terminal_width,
)
from ablation_kernels.timing import held_bytes

PROGRAM = "python -m ablation_kernels"
EXIT_INTERRUPTED, EXIT_NO_READER = 130, 141
# A shorter command shows no time left
NOTICEABLE_S = 5.0
HELP_WIDTH = 78
EXAMPLES = """\
examples, with their time on two cores:
  python -m ablation_kernels                         build, ceilings (1 s)
  python -m ablation_kernels softmax 6144x512        kernels of an op (4 s)
  python -m ablation_kernels matmul 128x768,768x768  with the shape of b (5 s)
  python -m ablation_kernels --all --json all.json   usual shapes of all (4 min)
  python -m ablation_kernels strassen 1024x4096      where Strassen's products
                                                     pay, by M, N and K"""


def print_wheel() -> None:
    """Print the build, the op table and the machine's measured ceilings."""
    width = terminal_width()
    print("\n".join([*fact_lines(build_info(), width), "", *kernel_lines(op_table(), width)]))
    ceilings = measure_ceilings()
    flops, memory = ceilings.multiply_add_flops_per_s / 1e9, ceilings.memory_bytes_per_s / 1e9
    print(f"\nceilings on {ceilings.threads} threads:")
    print(f"{flops:.0f} GFLOP/s multiply-add ({ceilings.provider}), {memory:.0f} GB/s memory")
    print(f"{ceilings.fork_join_ns / 1e3:.2f} us for a fork-join")


def print_op(call: Call, options: argparse.Namespace) -> None:
    """Time the kernels of an op on one call and print them side by side."""
    progress = Progress()
    if (left_s := expected_s(call, options.rounds)) > NOTICEABLE_S:
        progress.show(f"{call.op} {call.text}", left_s)
    record = measure([call], rounds=options.rounds)
    progress.close()
    print("\n".join(call_lines(record.rows, record, terminal_width())))
    _end(record, options)


def print_all(options: argparse.Namespace) -> None:
    """Time every kernel at usual shapes; print the fastest ones."""
    calls, progress = all_calls(), Progress()

    def tell(index: int, call: Call) -> None:
        left_s = time_left_s(calls, index, progress.elapsed_s)
        progress.show(f"{index + 1}/{len(calls)} {call.op} {call.text}", left_s)

    record = measure_all(tell)
    progress.close()
    print("\n".join(record_lines(record, terminal_width())))
    _end(record, options)


def _end(record: Record, options: argparse.Namespace) -> None:
    """Warn of other programs; write the file that was asked for."""
    warn(busy_warning(record.others_share, "used"))
    if options.json is not None:
        write(record, options.json, options.words)
        print(f"{len(record.rows)} rows: {options.json}")


def warn(warning: str | None) -> None:
    """Print a warning, if there is one."""
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)


class Progress:
    """Where a long command stands and how long it still takes: one line of a terminal that is
    rewritten, or now and then a line."""

    _EVERY_S = 15.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last: float | None = None
        self._is_live = sys.stderr.isatty()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def show(self, what: str, left_s: float) -> None:
        """Show what begins, and about how many seconds are left."""
        minutes, seconds = divmod(round(left_s), 60)
        text = f"{what}, about {minutes}:{seconds:02} min left"
        if self._is_live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}", end="", file=sys.stderr, flush=True)
        elif self._last is None or self.elapsed_s - self._last > self._EVERY_S:
            self._last = self.elapsed_s
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the live line away."""
        if self._is_live:
            print(f"\r{'':{shutil.get_terminal_size().columns - 1}}\r", end="", file=sys.stderr)


def print_map(sizes: tuple[int, ...], rounds: int, file: Path | None) -> None:
    """Print the times of Strassen's products over the packed one's, as measured and as expected;
    write both into a file, if one is given."""
    products, width = [], terminal_width()
    print("one, two: time with so many levels / the packed product's; b is a constant")
    print("expected: by the cost model; error: over the packed product's")
    print(map_line(None, width))
    for found in strassen.measure_map(sizes, rounds):
        print(map_line(found, width), flush=True)
        m, n, k = found.m, found.n, found.k
        chosen = strassen.kernel_for(m, n, k) or strassen.PACKED
        expected_ratios = [strassen.expected_ratio(m, n, k, levels) for levels in (1, 2)]
        products.append(asdict(found) | {"expected": expected_ratios, "chosen": chosen})
    if file is not None:
        facts = {"simd": build_info()["simd"], "threads": get_num_threads(), "rounds": rounds}
        file.write_text(json.dumps({**facts, "products": products}) + "\n")


def shapes_of(text: str) -> tuple[tuple[int, ...], ...]:
    """Parse the word SHAPE of the command line."""
    try:
        return parse_shapes(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}; accepted: sizes as in 6144x512, or shapes as in 512x768,768x3072"
        ) from None


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=textwrap.fill(__doc__, HELP_WIDTH),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("op", nargs="?", help="an op of the table, or strassen")
    parser.add_argument(
        "shape", nargs="?", type=shapes_of, help="of the first input, or of several: 6144x512"
    )
    parser.add_argument(
        "--all", action="store_true", help="time every kernel of the table at usual shapes"
    )
    parser.add_argument("--threads", type=int, help="default: the cores of this process")
    parser.add_argument(
        "--rounds",
        type=int,
        default=20,
        help="calls of each kernel of OP (default %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows into a file")
    version = importlib.metadata.version("ablation-kernels")
    parser.add_argument("--version", action="version", version=f"ablation-kernels {version}")
    return parser


def _refuse(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command where its words do not go together."""
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; accepted: 1 or more")
    if options.all and options.op is not None:
        parser.error(f"--all times every op; leave out {options.op!r}")
    if options.op is None and options.json is not None and not options.all:
        parser.error("--json is for an op, or for --all")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json is {options.json}; accepted: a file in a folder that exists")
    if options.op is not None and options.shape is None:
        parser.error("the following argument is required: shape, for example 6144x512")


def _refuse_too_large(call: Call | None) -> None:
    """Raise ValueError for a call whose arrays memory does not hold."""
    available = available_bytes()
    if call is None or available is None or (needed := held_bytes(call)) <= available:
        return
    raise ValueError(
        f"{call.op}: shape {call.text} takes {needed / 2**30:,.1f} GiB of memory; accepted: shapes "
        f"that fit into the {available / 2**30:,.1f} GiB that are available"
    )


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Carry out what the command line asks for."""
    _refuse(parser, options)
    try:
        if options.threads is not None:
            set_num_threads(options.threads)
        if options.op is None and not options.all:
            print_wheel()
            return
        is_map = options.op == "strassen"
        call = None if options.all or is_map else make_call(options.op, *options.shape)
        largest = max(options.shape[0]) if is_map else None
        _refuse_too_large(call if largest is None else make_call("matmul", (largest, largest)))
    except ValueError as error:
        parser.error(str(error))
    warn(busy_warning(other_load(), "use"))
    if is_map:
        print_map(options.shape[0], options.rounds, options.json)
    elif call is None:
        print_all(options)
    else:
        print_op(call, options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 for a file that cannot be written and for memory that is
    not there, 130 after Ctrl-C, 141 where the reader of the output went away."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    try:
        try:
            options = parser.parse_args(words, argparse.Namespace(words=words))
            run(parser, options)
        finally:
            # Help ends the command too
            sys.stdout.flush()
    except BrokenPipeError:
        # What is left of the output must not fail when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_READER
    except OSError as error:
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"{PROGRAM}: error: {error or 'not enough memory'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
