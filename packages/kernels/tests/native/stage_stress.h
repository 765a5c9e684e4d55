// Stress of programs: threads that run rows of several calls between two joins, and programs that
// share a workspace.
#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "core/program.h"

namespace ablation {

/// x + down(relu(up(norm(x)))) as one stage, as single calls, and from three callers at once.
class StagedProgram {
  public:
    explicit StagedProgram(const std::vector<StageSpec>& stages,
                           std::int64_t arena_bytes = 4 * kBlock,
                           std::shared_ptr<Workspace> workspace = nullptr)
        : weight_(constant(kWidth, 1)),
          bias_(constant(kWidth, 2)),
          up_(constant(kWidth * kHidden, 3)),
          down_(constant(kWidth * kHidden, 4)),
          program_(values(), calls(), arena_bytes, stages, std::move(workspace)) {}

    std::vector<float> run(std::vector<float> x) {
        std::vector<float> out(x.size());
        std::vector<std::int64_t> times(3);
        float* const input = x.data();
        float* const output = out.data();
        program_.run({&input, 1}, {&output, 1}, times.data());
        return out;
    }

    static std::vector<float> constant(std::int64_t count, unsigned seed) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& value : values) value = normal(random);
        return values;
    }

    static constexpr std::int64_t kRows = 61, kWidth = 40, kHidden = 72, kBlock = 32768;

  private:
    std::vector<ValueSpec> values() {
        const auto fixed = [](Shape shape, std::vector<float>& data) {
            return ValueSpec{Storage::constant, shape, data.data(), 0, -1};
        };
        const auto arena = [](Shape shape, std::int64_t offset) {
            return ValueSpec{Storage::arena, shape, nullptr, offset, -1};
        };
        return {{Storage::input, {kRows, kWidth}, nullptr, 0, -1},
                fixed({kWidth}, weight_),
                fixed({kWidth}, bias_),
                fixed({kWidth, kHidden}, up_),
                fixed({kHidden, kWidth}, down_),
                arena({kRows, kWidth}, 0),
                arena({kRows, kHidden}, kBlock),
                {Storage::output, {kRows, kWidth}, nullptr, 0, -1}};
    }

    static std::vector<CallSpec> calls() {
        Attributes relu;
        relu.activation = Activation::relu;
        const char* product = "matmul_packed_simd_parallel";
        return {{"layer_norm_simd_parallel", {0, 1, 2}, 5, {}, 0, "norm"},
                {product, {5, 3}, 6, relu, 2 * kBlock, "up"},
                {product, {6, 4, -1, 0}, 7, {}, 2 * kBlock, "down"}};
    }

    std::vector<float> weight_, bias_, up_, down_;
    Program program_;
};

/// Staged programs of three callers, and one that they share, give the bits of single calls.
inline bool stages_from_several_threads(int rounds) {
    const std::vector<StageSpec> stages = {{0, 3}};
    StagedProgram shared(stages);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (unsigned seed = 10; seed < 13; ++seed) {
        callers.emplace_back([&, seed] {
            StagedProgram own(stages), apart({});
            const auto x =
                StagedProgram::constant(StagedProgram::kRows * StagedProgram::kWidth, seed);
            const std::vector<float> expected = apart.run(x);
            for (int round = 0; round < rounds; ++round) {
                if (own.run(x) != expected || shared.run(x) != expected) ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    return wrong == 0;
}

/// Programs of one workspace that threads build, run and drop, so that its arena grows meanwhile.
inline bool workspace_of_several_threads(int rounds) {
    const std::vector<StageSpec> stages = {{0, 3}};
    const auto workspace = std::make_shared<Workspace>();
    StagedProgram shared(stages, 4 * StagedProgram::kBlock, workspace);
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (unsigned seed = 10; seed < 13; ++seed) {
        callers.emplace_back([&, seed] {
            const auto x =
                StagedProgram::constant(StagedProgram::kRows * StagedProgram::kWidth, seed);
            StagedProgram apart({});
            const std::vector<float> expected = apart.run(x);
            for (int round = 0; round < rounds; ++round) {
                const std::int64_t bytes = (4 + round) * StagedProgram::kBlock;
                StagedProgram own(stages, bytes, workspace);
                if (own.run(x) != expected || shared.run(x) != expected) ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    return wrong == 0 && workspace->arena_bytes() == (3 + rounds) * StagedProgram::kBlock;
}

}  // namespace ablation
