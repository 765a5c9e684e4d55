"""The command line: a parent that survives the crash of its worker and names the call."""

from __future__ import annotations

import argparse
import datetime
import faulthandler
import mmap
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.case import Case, Chance, OwnError

#: Calls of one block share a number of threads, which the block's number decides.
BLOCK = 500
MOST_FAULTS = 20


def make_case(seed: int, number: int) -> Case:
    """The call of this number."""
    from fuzz import op_cases, other_calls, program_calls

    chance = Chance(f"{seed} {number}")
    makers = (
        *(op_cases.make,) * 12,
        *(other_calls.bf16, other_calls.taught),
        *(other_calls.question,) * 3,
        other_calls.setting,
        *(program_calls.described,) * 3,
        *(program_calls.run_of,) * 2,
    )
    return chance.choice(makers)(chance)


def fault_of(case: Case) -> str | None:
    """Make the call and return what is wrong with what came of it; None if it is right."""
    try:
        result = case.run()
    except (TypeError, ValueError, IndexError, MemoryError, OwnError) as error:
        if case.expected == "taken":
            return f"refused: {type(error).__name__}: {error}"
        return None
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    if case.expected == "refused":
        return "taken, and it has to be refused"
    if case.check is not None:
        try:
            case.check(result)
        except AssertionError as error:
            return str(error)
    return None


def work(options: argparse.Namespace) -> int:
    """Make calls until the number or the time is reached; return the number of faults."""
    import ablation_kernels
    from fuzz import libraries

    faulthandler.enable()
    libraries.add_libraries()
    sanitizer = ablation_kernels.build_info()["sanitizer"]
    print(
        f"sanitizer {sanitizer}; arrays of {', '.join(libraries.NAMES) or 'neither torch nor jax'}"
    )
    end = time.monotonic() + options.seconds
    faults, taken = 0, 0
    with Path(options.record).open("r+b") as file, mmap.mmap(file.fileno(), 16) as record:
        number = options.first
        while number < options.first + options.calls and time.monotonic() < end:
            # What the parent reads if this process dies
            record[:16] = struct.pack("qq", number, number - options.first)
            if number % BLOCK == 0 or number == options.first:
                ablation_kernels.set_num_threads(1 + number // BLOCK % 4)
            case = make_case(options.seed, number)
            fault = fault_of(case)
            taken += case.expected == "taken"
            if fault is not None:
                faults += 1
                print(f"call {number}: {fault}\n    {case.text}", flush=True)
                if faults == MOST_FAULTS:
                    break
            number += 1
        record[:16] = struct.pack("qq", number, number - options.first)
    print(f"{number - options.first} calls, {taken} of them right, {faults} faults", flush=True)
    return faults


def watch(options: argparse.Namespace) -> int:
    """Run the worker and name the call at which it died; return the exit status."""
    print(f"seed {options.seed}", flush=True)
    with tempfile.NamedTemporaryFile() as record:
        record.write(bytes(16))
        record.flush()
        arguments = [
            f"--{name}={getattr(options, name)}" for name in ("seed", "first", "calls", "seconds")
        ]
        command = [sys.executable, "-m", "fuzz", *arguments, f"--record={record.name}"]
        status = subprocess.run(command, check=False).returncode
        number, _ = struct.unpack("qq", Path(record.name).read_bytes())
    if status not in (0, 1):
        print(f"the process ended with status {status} at call {number}")
    if status:
        print(f"again: python -m fuzz --seed {options.seed} --first {number} --calls 1")
    return 1 if status else 0


def main() -> int:
    """Run the command line."""
    today = int(datetime.datetime.now(datetime.UTC).strftime("%Y%m%d"))
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=today, help="default: the day, in UTC")
    parser.add_argument("--first", type=int, default=0, help="number of the first call (0)")
    parser.add_argument("--calls", type=int, default=10**9, help="at most as many calls")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most as long (60)")
    parser.add_argument("--record", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record is None:
        return watch(options)
    return 1 if work(options) else 0


if __name__ == "__main__":
    sys.exit(main())
