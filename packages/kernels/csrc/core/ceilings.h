// What the machine can do at most: the yardsticks of docs/performance.md.
#pragma once

namespace ablation {

struct Ceilings {
    /// Instruction set of the multiply-adds.
    const char* provider;
    double multiply_add_flops_per_s;
    double memory_bytes_per_s;
    /// What a fork-join adds to its work while the pool is awake; 0 on one thread.
    double fork_join_ns;
};

/// Measures all three on num_threads() threads: the rates as the best of 10 runs, the fork-join as
/// the median of 501 calls. Takes about half a second. Throws std::bad_alloc if 192 MiB are not
/// free.
Ceilings measure_ceilings();

}  // namespace ablation
