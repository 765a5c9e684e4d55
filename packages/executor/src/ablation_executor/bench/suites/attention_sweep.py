"""attention-sweep: the forward of attention over lengths, heads, masks and threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

import ablation_kernels

from .case import Case, CustomTier, make_case
from .kernel_attention import OP, kernel_needs, unfused_needs
from .kernel_bf16 import FLASH_BF16, FUNCTION, bf16_needs, bf16_refusal
from .refusals import torch_refusal
from .suite import Implementation, Needs, Program, Refusal, Suite

NAME = "attention-sweep"
FLASH_KERNEL, FLASH = "attention_flash_packed_simd_parallel", "ablation_flash"
UNFUSED = "ablation_unfused"
TRITON = "triton_flash"

PAPER_LENGTHS = (2048, 4096, 8192, 16384)
CPU_LENGTHS = (256, 512, 1024, 2048, 4096)
RECTANGLES = ((1, 4096), (128, 4096), (2048, 512))
ODD_LENGTH, ODD_HEAD_DIM = 1000, 80
CROSSOVER_LENGTHS, CROSSOVER_HEADS = (128, 256, 512, 1024, 2048, 4096, 8192), (1, 4, 12)
QUICK_LENGTH, QUICK_RECTANGLE = 1024, (128, 4096)
# Beyond this a kernel on one thread would take longer than all others together; quick runs stop
# at the second.
SERIAL_PAIRS, QUICK_SERIAL_PAIRS = 1024**2, 256**2
# Rows of queries and of keys in a tile of PyTorch's CPU kernel, at most.
SDPA_TILE = (256, 512)

TIERS: Mapping[str, str] = {
    "paper": "the published sizes: B4 H12 d64 causal, N from 2048 to 16384",
    "cpu": "B1 H12 d64, causal and full, N from 256 to 4096",
    "rect": "B1 H12 d64, fewer or more queries than keys, one query among them",
    "odd": "N 1000, d 80: what no block divides",
    "half": "B1 H12 d64 in 16 bits: bfloat16 at N 1024 full and causal and 4096 causal, float16 at "
    "N 1024 causal",
    "crossover": "B1 d64, N from 128 to 8192 by 1, 4 and 12 heads: where tiles win over scores",
}

TORCH = (
    Implementation(
        "torch_unfused_einsum",
        "torch",
        "einsum, divide, mask, softmax from its parts, einsum: not PyTorch's SDPA",
        "scaled_dot_prod_attention",
    ),
    Implementation(
        "torch_unfused_lse",
        "torch",
        "matmul, masked_fill, logsumexp, exp, matmul",
        "vectorized_torch",
    ),
    Implementation(
        "torch_unfused_lse_compiled",
        "inductor",
        "torch_unfused_lse by torch.compile",
        "vectorized_torch_compiled",
    ),
    Implementation(
        TRITON, "triton", "our FlashAttention-2 forward in Triton", "flash_attention_triton"
    ),
    Implementation("torch_sdpa_flash", "torch", "PyTorch's SDPA by its flash backend"),
    Implementation("torch_sdpa_math", "torch", "PyTorch's SDPA by its math backend"),
    Implementation("torch_flex_compiled", "inductor", "PyTorch's flex_attention by torch.compile"),
)
CUDA = (
    Implementation("torch_sdpa_cudnn", "torch", "PyTorch's SDPA by its cuDNN backend"),
    Implementation("torch_sdpa_efficient", "torch", "PyTorch's SDPA by its efficient backend"),
)


def products() -> dict[str, str]:
    """Implementation over whole scores to the kernel of the op matmul that multiplies."""
    return {
        UNFUSED if kernel.gemm == "blas" else f"{UNFUSED}_{kernel.gemm}": kernel.name
        for kernel in ablation_kernels.op_table()
        if kernel.op == "matmul" and kernel.parallel
    }


def attention_kernels() -> dict[str, str]:
    """Implementation to kernel of the op attention; the packed flash kernel has the name by which
    all suites know it, the others have their own."""
    names = [kernel.name for kernel in ablation_kernels.op_table() if kernel.op == OP]
    return {FLASH if name == FLASH_KERNEL else name: name for name in names}


def serial_kernels() -> set[str]:
    """Kernels of the op that run on one thread, whatever they are given."""
    table = ablation_kernels.op_table()
    return {kernel.name for kernel in table if kernel.op == OP and not kernel.parallel}


class AttentionSweep(Suite):
    """The forward of attention; see `Suite`."""

    name = NAME
    what = "the forward of attention over lengths, heads, masks and threads"
    baseline = "torch_sdpa_flash"
    tiers = TIERS

    def default_tiers(self, device: str) -> Sequence[str]:
        """On a CPU not the published sizes, where the longest call takes a minute, nor the grid of
        the crossover."""
        return ("cpu", "rect", "odd", "half") if device == "cpu" else ("paper", "rect", "odd")

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """The cases of a tier; on a GPU in float16, as published, on a CPU in float32."""
        usual = "float16" if device == "cuda" else "float32"
        return [
            make_case(
                NAME, tier, shape, dtype=dtype or usual, causal=causal, threads=count, device=device
            )
            for count in threads
            for shape, causal, dtype in _shapes(tier)
        ]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The short cases of the cpu tier, one rectangle and one odd size."""
        short = [case for case in self.cases("cpu", threads, device) if case.Nq <= QUICK_LENGTH]
        rect = [
            case
            for case in self.cases("rect", threads, device)
            if (case.Nq, case.Nk) == QUICK_RECTANGLE and not case.causal
        ]
        odd = [case for case in self.cases("odd", threads, device) if case.causal]
        return [*short, *rect, *odd]

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """Sizes of the command line, full and causal."""
        dtype = "float16" if device == "cuda" else "float32"
        return [
            make_case(
                NAME,
                custom.name,
                custom.shape,
                dtype=dtype,
                causal=causal,
                threads=count,
                device=device,
            )
            for count in threads
            for causal in (False, True)
        ]

    def implementations(self, device: str) -> tuple[Implementation, ...]:
        """PyTorch's, Triton's, and on a CPU ours."""
        if device == "cuda":
            return (*TORCH, *CUDA)
        ideas = {kernel.name: kernel.idea for kernel in ablation_kernels.op_table()}
        ours = [
            Implementation(name, "ablation", f"{kernel}: {ideas[kernel]}")
            for name, kernel in attention_kernels().items()
        ]
        ours += [
            Implementation(name, "ablation", f"all scores in memory, products by {kernel}")
            for name, kernel in products().items()
        ]
        ours.append(
            Implementation(FLASH_BF16, "ablation", f"{FUNCTION}: the packed flash form on bfloat16")
        )
        return (*TORCH, *ours)

    def supports(self, implementation: Implementation, case: Case) -> Refusal | None:
        """Packages and devices that are not here, types that are not fast here."""
        if implementation.name == TRITON:
            return triton_refusal(case)
        if implementation.name == FLASH_BF16:
            return bf16_refusal(case)
        if implementation.origin == "ablation":
            return _kernel_refusal(implementation.name, case)
        if case.device == "cpu" and case.dtype == "float16":
            text = "PyTorch multiplies float16 on a CPU without its matrix library"
            return Refusal("unsupported", "dtype_not_accelerated", text)
        return torch_refusal(implementation, case)

    def quick_refusal(self, implementation: Implementation, case: Case) -> Refusal | None:
        """To compile takes seconds a case, and a scalar kernel is slow: one case of each is enough
        to see that they run."""
        is_shown = case.Nq == case.Nk == QUICK_LENGTH and case.causal
        if implementation.origin == "inductor" and not is_shown:
            text = f"quick runs compile only for N {QUICK_LENGTH} causal"
            return Refusal("skipped", "policy", text)
        kernel = attention_kernels().get(implementation.name)
        if kernel in serial_kernels() and case.Nq * case.Nk > QUICK_SERIAL_PAIRS:
            text = f"quick runs of kernels on one thread end at {QUICK_SERIAL_PAIRS} pairs"
            return Refusal("skipped", "policy", text)
        return None

    def needs(self, implementation: Implementation, case: Case, phase: str) -> Needs:
        """Whole scores by how many of them are alive at a time, tiles by their size."""
        name = implementation.name
        if name in products():
            return unfused_needs(products()[name], case)
        if name == FLASH_BF16:
            return bf16_needs(case)
        if name in attention_kernels():
            return kernel_needs(attention_kernels()[name], case)
        mask = case.Nq * case.Nk if case.causal else 0
        resident = case.input_bytes + mask
        if name in ("torch_unfused_einsum", "torch_unfused_lse", "torch_sdpa_math"):
            # Scores, those less the maximum or the logarithm, and exp of that
            return Needs(resident, 3 * case.scores_bytes + case.output_bytes)
        if name == "torch_unfused_lse_compiled":
            return Needs(resident, 2 * case.scores_bytes + case.output_bytes)
        rows, keys = SDPA_TILE
        tile = 4 * (rows * keys + rows * case.d + 2 * rows)
        return Needs(case.input_bytes, case.output_bytes + case.threads * tile)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """In quick runs of one case, since every implementation takes a new process."""
        return not is_quick or (case.Nq == case.Nk == QUICK_LENGTH and case.causal)

    def start(self, implementation: str, threads: int) -> None:
        """PyTorch for its own, the kernels for ours."""
        if implementation in (*products(), *attention_kernels(), FLASH_BF16):
            ablation_kernels.set_num_threads(threads)
        else:
            from .torch_attention import start_torch

            start_torch(implementation, threads)

    def load(self, implementation: str, case: Case, seed: int) -> Program:
        """The program of an implementation."""
        if implementation == FLASH_BF16:
            from .kernel_bf16 import Bf16Attention

            return Bf16Attention(case, seed)
        if implementation in (*products(), *attention_kernels()):
            from .kernel_attention import AttentionKernel, UnfusedKernels

            if implementation in products():
                return UnfusedKernels(products()[implementation], case, seed)
            return AttentionKernel(attention_kernels()[implementation], case, seed)
        from .torch_attention import TorchAttention

        return TorchAttention(implementation, case, seed)


def _shapes(tier: str) -> Iterator[tuple[tuple[int, int, int, int, int], bool, str | None]]:
    """(B, H, Nq, Nk, d), causal and type of the cases of a tier; None is the device's usual."""
    if tier == "paper":
        for length in PAPER_LENGTHS:
            yield (4, 12, length, length, 64), True, None
    elif tier == "crossover":
        for causal in (False, True):
            for heads in CROSSOVER_HEADS:
                for length in CROSSOVER_LENGTHS:
                    yield (1, heads, length, length, 64), causal, None
    elif tier == "half":
        yield (1, 12, 1024, 1024, 64), False, "bfloat16"
        for length, dtype in ((1024, "bfloat16"), (1024, "float16"), (4096, "bfloat16")):
            yield (1, 12, length, length, 64), True, dtype
    else:
        pairs = {
            "cpu": [(length, length) for length in CPU_LENGTHS],
            "rect": list(RECTANGLES),
            "odd": [(ODD_LENGTH, ODD_LENGTH)],
        }[tier]
        head_dim = ODD_HEAD_DIM if tier == "odd" else 64
        for length_q, length_k in pairs:
            for causal in (False, True):
                yield (1, 12, length_q, length_k, head_dim), causal, None


def triton_refusal(case: Case) -> Refusal | None:
    """Why our Triton kernel cannot run, or None."""
    if find_spec("triton") is None:
        text = "Triton is not installed; pip install 'ablation-executor[triton]'"
        return Refusal("unsupported", "no_triton", text)
    if case.device != "cuda":
        text = "Triton has no driver for a CPU; its interpreter is for tests, not for times"
        return Refusal("unsupported", "no_triton_driver", text)
    if case.dtype == "bfloat16":
        text = "our Triton kernel takes float32 and float16"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    return None


def _kernel_refusal(name: str, case: Case) -> Refusal | None:
    if case.dtype != "float32":
        text = f"this kernel computes in float32, the case is {case.dtype}"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    kernel = attention_kernels().get(name)
    if kernel in serial_kernels() and case.B * case.Nq * case.Nk > SERIAL_PAIRS:
        text = f"a kernel on one thread is not run beyond {SERIAL_PAIRS} pairs of a head"
        return Refusal("skipped", "policy", text)
    return None


SUITE = AttentionSweep()
