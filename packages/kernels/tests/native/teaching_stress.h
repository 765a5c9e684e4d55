// Stress of the teaching set: each form on several threads gives the bits of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "core/parallel.h"
#include "teaching/teaching.h"

namespace ablation {

inline bool teaching_forms_on_threads(int rounds) {
    constexpr std::int64_t kHeads = 3, kLength = 37, kSize = 8;
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    const auto array = [&] {
        std::vector<float> values(static_cast<std::size_t>(kHeads * kLength * kSize));
        for (float& value : values) value = normal(random);
        return values;
    };
    const std::vector<float> q = array(), k = array(), v = array();
    const auto run = [&](teaching::Form form, int threads) {
        std::vector<float> output(q.size());
        form({q.data(), k.data(), v.data(), output.data(), kHeads, kLength, kSize, 8, 5, 0.3F,
              teaching::Softmax::safe, threads, true});
        return output;
    };
    for (const teaching::Form form :
         {teaching::naive, teaching::blocked, teaching::fused_row, teaching::flash}) {
        const std::vector<float> serial = run(form, 1);
        for (int round = 0; round < rounds; ++round) {
            if (run(form, num_threads()) != serial) return false;
        }
    }
    return true;
}

}  // namespace ablation
