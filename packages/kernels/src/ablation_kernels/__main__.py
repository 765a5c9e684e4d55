"""`python -m ablation_kernels`: what this wheel is, uses and can reach on this machine."""

from __future__ import annotations

from ablation_kernels.table import build_info, measure_ceilings, op_table


def main() -> None:
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


if __name__ == "__main__":
    main()
