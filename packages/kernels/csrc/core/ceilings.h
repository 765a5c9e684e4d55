// What the machine can do at most: the yardsticks of docs/performance.md.
#pragma once

namespace ablation {

struct Ceilings {
    const char* provider;  ///< instruction set of the multiply-adds
    double multiply_add_flops_per_s;
    double memory_bytes_per_s;
};

/// Measures both on num_threads() threads, the best of several runs each; takes about half a
/// second. Throws std::bad_alloc if 192 MiB are not free.
Ceilings measure_ceilings();

}  // namespace ablation
