"""The block ablation: a transformer block under every rung of the ladder, and by other runtimes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_kernels import strassen

from ...case import MAX_BATCH, Case, CustomTier
from ...interrupt import UsageError
from ...names import resolve_names, split_names
from ...options import whole_number
from ...runtimes import BY_NAME as RUNTIMES
from ...runtimes import make_adapter, missing_reason
from ...suite import Flops, Loaded, Needs, Refusal, Suite, Variant
from .check import reference_bytes
from .configs import (
    CONFIGS,
    MAX_LAYERS,
    QUICK_CONFIGS,
    SUITE_NAME,
    TIER,
    Config,
    config_of,
    find_config,
)
from .ladder import (
    BY_NAME,
    LARGE_VARIANTS,
    LEAGUE,
    LEAGUE_SELECTION,
    SAME_PROGRAM_PAIRS,
    VARIANTS,
)

CONFIG_NAMES = [config.name for config in CONFIGS]
LADDER_NAMES = [rung.name for rung in VARIANTS]
LEAGUE_NAMES = [rung.name for rung in LEAGUE]
# What is asked most: PyTorch's fused attention, our default, a program that runs twice, and the
# league.
FIRST = ("torch-sdpa", "beyond-default", *SAME_PROGRAM_PAIRS[0], *LEAGUE_NAMES)
# Time of a call over its operations at the ceiling, as recorded from GPT-2 to 1B-8K: a part that is
# the same at every size, and what attention adds by its share of the operations. What runs on one
# thread adds as much for each thread of the case.
SLOWDOWNS = {
    "torch": (1.35, 0.3),
    "numpy": (1.2, 5.0),
    "kernels": (1.14, 0.2),
    "torch-compile": (1.9, 1.0),
    "torch-compile-max": (1.9, 1.0),
    "onnxruntime": (1.25, 0.5),
    "openvino": (1.15, 0.25),
    "jax": (1.35, 1.0),
}
SLOW_UNFUSED, SLOW_SCALAR = 3.0, 1.7


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose cases: sizes, layers and batch."""
    add = parser.add_argument
    add("--configs", metavar="A,B", help="model sizes (default: all nine)")
    layers = f"blocks in sequence, each with its own weights, 1 to {MAX_LAYERS} (default: 1)"
    add("--layers", type=whole_number(1, MAX_LAYERS), metavar="N", help=layers)
    add(
        "--batch",
        type=whole_number(1, MAX_BATCH),
        metavar="N",
        help="sequences per call (default: 1)",
    )
    add("--skip-large", action="store_true", help="leave out seq_len of 4096 or more")


class BlockSuite(Suite):
    """Nine sizes of a transformer block, or of several in a row; a rung differs from its parent on
    one axis."""

    name = SUITE_NAME
    what = "a transformer block under every variant of the ablation ladder"
    baseline = "torch-naive"
    tiers: Mapping[str, str] = {TIER: "sizes from Toy to those of large models"}
    twins = SAME_PROGRAM_PAIRS
    devices = ("cpu",)
    case_options = ("configs", "layers", "batch", "skip_large")
    # A runtime that has given up its weights cannot load others; and each case has fresh memory.
    keeps_workers = False

    def __init__(self) -> None:
        self._adapters: dict[str, Any] = {}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the published interface."""
        add_case_options(parser)
        add = parser.add_argument
        add("--all-variants", action="store_true", help="measure all variants at large sizes, too")
        add(
            "--baselines",
            metavar="A,B",
            help="other runtimes to measure, all or none (default: all; one that is not installed "
            "has a row with the command that installs it)",
        )

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """All nine."""
        return [config.case(count) for count in threads for config in CONFIGS]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The four small ones."""
        return [find_config(name).case(count) for count in threads for name in QUICK_CONFIGS]

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """None: sizes are those of configs."""
        return None

    def chosen_cases(
        self, options: argparse.Namespace, cases: list[Case], threads: Sequence[int]
    ) -> list[Case]:
        """Those of `--configs`, with the layers and the batch asked for, without long ones if these
        are to be skipped."""
        if options.configs is not None:
            names = resolve_names("config", split_names(options.configs), CONFIG_NAMES)
            cases = [find_config(name).case(count) for count in threads for name in names]
        layers, batch = options.layers or 1, options.batch or 1
        cases = [config_of(case).batched(batch).case(case.threads, layers) for case in cases]
        if options.skip_large:
            cases = [case for case in cases if not config_of(case).is_long]
            if not cases:
                raise UsageError("--skip-large leaves out all named configs")
        return cases

    def chosen_variants(self, options: argparse.Namespace, given: list[str] | None) -> list[str]:
        """The rungs named, all, or `league`, and the other runtimes of `--baselines`."""
        if given is not None and options.all_variants:
            raise UsageError("--variants and --all-variants: give one of them")
        names = LADDER_NAMES
        if given is not None and [name.lower() for name in given] == ["league"]:
            names = [name for name in LADDER_NAMES if name in LEAGUE_SELECTION]
        elif given is not None:
            names = resolve_names("variant", given, LADDER_NAMES)
        return [*names, *_chosen_baselines(options.baselines)]

    def case_lines(self) -> list[str]:
        """The sizes of each config."""
        lines = ["configs", "  name     d_model  heads  seq_len   GFLOP  variants"]
        for config in CONFIGS:
            count = len(self.usual_variants(config.case(1))) - len(LEAGUE)
            lines.append(
                f"  {config.name:<8} {config.d_model:>7} {config.n_heads:>6} "
                f"{config.seq_len:>8} {config.flops / 1e9:>7.4g} {count:>9}"
            )
        return lines

    def variants(self, device: str) -> tuple[Variant, ...]:
        """The ladder and the league."""
        return tuple(rung.variant() for rung in (*VARIANTS, *LEAGUE))

    def usual_variants(self, case: Case) -> Sequence[str]:
        """All, but fewer rungs where these take long."""
        is_large = config_of(case).is_large
        ladder = [name for name in LADDER_NAMES if not is_large or name in LARGE_VARIANTS]
        return [*ladder, *LEAGUE_NAMES]

    def first_variants(self, case: Case) -> Sequence[str]:
        """PyTorch's fused attention, the best of ours, the twins and the league."""
        return FIRST

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """What is not installed is refused with the command that installs it; another arithmetic
        where it would be the same program under another name."""
        rung = BY_NAME[variant.name]
        missing = missing_reason(rung.runtime)
        if missing is not None:
            return Refusal("unsupported", "not_installed", missing)
        if rung.arithmetic == "other" and not gains_by_strassen(config_of(case)):
            text = f"no product of {case.name} is expected to gain by Strassen's scheme"
            return Refusal("skipped", "policy", text)
        return None

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Input and output; the program says what it needs once it is built."""
        return Needs(0, 2 * config_of(case).block_bytes)

    def shared_bytes(self, worker: str, case: Case) -> int:
        """The weights of all layers, as often as the worker holds them."""
        return RUNTIMES[worker].weights_copies * config_of(case).weights_bytes

    def flops(self, case: Case, phase: str) -> Flops:
        """Operations of one forward call."""
        return Flops(config_of(case).flops)

    def slowdown(self, variant: Variant, case: Case) -> float:
        """By what runs it, and what attention it has at this length."""
        config = config_of(case)
        # The part of the operations that is attention: 4 S^2 d of 24 S d^2 + 4 S^2 d
        share = config.seq_len / (6 * config.d_model + config.seq_len)
        # A runtime that was not recorded yet is taken for PyTorch
        base, slope = SLOWDOWNS.get(variant.worker, SLOWDOWNS["torch"])
        kernel = str(variant.factors.get("attention"))
        if variant.worker == "torch" and kernel == "unfused":
            slope += SLOW_UNFUSED
        if kernel in ("attention_fused_scalar", "attention_fused_simd") or (
            kernel == "unfused" and variant.factors.get("softmax") == "softmax_scalar"
        ):
            slope += SLOW_SCALAR * case.threads
        return base + slope * share

    def reference_bytes(self, case: Case) -> int | None:
        """Bytes of the reference's process."""
        return reference_bytes(config_of(case))

    def write_reference(self, case: Case, seed: int, path: Path) -> None:
        """Compute the block in float64 and write it."""
        from .programs import write_reference

        write_reference(config_of(case), seed, path)

    def start(self, worker: str, threads: int) -> None:
        """Import the runtime and set its threads."""
        self._adapters[worker] = make_adapter(worker, threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Make the weights and the input."""
        return self.load_with(self._adapters[worker], worker, case, seed)

    def load_with(self, adapter: Any, worker: str, case: Case, seed: int) -> Loaded:
        """Load a case by an adapter that another suite has made."""
        from .programs import BlockLoaded

        return BlockLoaded(adapter, config_of(case), seed)


def gains_by_strassen(config: Config) -> bool:
    """Return whether `compile` takes another arithmetic for some product of the block."""
    rows, d = config.batch * config.seq_len, config.d_model
    # Outputs and inputs of merged QKV, output projection, and both of the feed-forward
    shapes = ((3, 1), (1, 1), (4, 1), (1, 4))
    return any(strassen.kernel_for(rows, n * d, k * d) for n, k in shapes)


def _chosen_baselines(text: str | None) -> list[str]:
    """Return the other runtimes to run with the rungs: all without the option."""
    given = "all" if text is None else text.strip().lower()
    if given in ("all", "none"):
        return LEAGUE_NAMES if given == "all" else []
    return resolve_names("baseline", split_names(given), LEAGUE_NAMES)


SUITE = BlockSuite()
