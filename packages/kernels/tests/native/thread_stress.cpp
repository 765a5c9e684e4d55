// Stress of the thread pool and of every parallel kernel, made for ThreadSanitizer: many small
// fork-joins, a changing number of threads, several callers, nesting, fork, and each parallel
// kernel against a serial one. ABLATION_OPENBLAS: path of the OpenBLAS library, where that is the
// provider. An argument multiplies the rounds.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/blas.h"
#include "core/parallel.h"
#include "core/table.h"
#include "core/types.h"
#include "stage_stress.h"
#include "teaching_stress.h"

#if defined(__SANITIZE_THREAD__)
// A child made by fork starts threads of its own, which the sanitizer refuses unless told.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace ablation {
namespace {

constexpr int kThreads = 4;

int passed = 0;
int failed = 0;

void expect(bool right, const std::string& what) {
    if (right) {
        ++passed;
    } else {
        ++failed;
        std::printf("FAILED %s\n", what.c_str());
    }
}

/// One fork-join whose items count themselves; true if each ran exactly once, on a worker within
/// bounds.
bool each_item_once(std::int64_t n_items, int max_workers) {
    struct Context {
        std::array<int, 64> visits{};  // not atomic on purpose: items must not share one
        std::atomic<int> out_of_bounds{0};
        int limit = 0;
    } context;
    context.limit = max_workers;
    parallel_for(
        n_items, &context,
        [](void* opaque, std::int64_t item, int worker) {
            auto& c = *static_cast<Context*>(opaque);
            ++c.visits[static_cast<std::size_t>(item)];
            if (worker < 0 || worker >= c.limit) ++c.out_of_bounds;
        },
        max_workers);
    bool right = context.out_of_bounds == 0;
    for (std::int64_t item = 0; item < 64; ++item) {
        right = right && context.visits[static_cast<std::size_t>(item)] == (item < n_items ? 1 : 0);
    }
    return right;
}

bool many_fork_joins(int rounds) {
    bool right = true;
    for (int round = 0; round < rounds; ++round) {
        right = each_item_once(round % 65, 1 + round % kThreads) && right;
    }
    return right;
}

bool fork_joins_while_threads_change(int rounds) {
    std::atomic<bool> done{false};
    std::thread changer([&done] {
        for (int n = 0; !done; ++n) {
            set_num_threads(1 + n % kThreads);
            std::this_thread::yield();
        }
    });
    const bool right = many_fork_joins(rounds);
    done = true;
    changer.join();
    set_num_threads(kThreads);
    return right;
}

bool several_callers(int rounds) {
    std::array<bool, 3> right{};
    std::vector<std::thread> callers;
    for (bool& result : right) {
        callers.emplace_back([&result, rounds] { result = many_fork_joins(rounds); });
    }
    for (std::thread& caller : callers) caller.join();
    return right[0] && right[1] && right[2];
}

bool nested(int rounds) {
    std::atomic<int> wrong{0};
    for (int round = 0; round < rounds; ++round) {
        parallel_items(8, kThreads, [&wrong](std::int64_t, int) {
            int visits = 0;  // one thread runs all inner items, as worker 0
            parallel_items(16, kThreads, [&visits, &wrong](std::int64_t, int worker) {
                ++visits;
                if (worker != 0) ++wrong;
            });
            if (visits != 16) ++wrong;
        });
    }
    return wrong == 0;
}

bool ranges_cover(int rounds) {
    bool right = true;
    for (int round = 0; round < rounds; ++round) {
        const std::int64_t n = 1 + round % 513;
        const std::int64_t grain = 1 + round % 17;
        std::vector<int> visits(static_cast<std::size_t>(n));
        parallel_ranges(n, grain, kThreads, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        for (const int count : visits) right = right && count == 1;
    }
    return right;
}

/// An exception of a body reaches the caller, whichever thread has met it, and the pool goes on.
bool exceptions_reach_the_caller(int rounds) {
    bool right = true;
    for (int round = 0; round < rounds; ++round) {
        std::atomic<int> begun{0};
        const int thrower = round % 50;
        bool caught = false;
        try {
            parallel_items(50, kThreads, [&](std::int64_t item, int) {
                begun.fetch_add(1);
                if (item == thrower || (round % 3 == 0 && item > thrower)) throw std::bad_alloc();
            });
        } catch (const std::bad_alloc&) {
            caught = true;
        }
        right = right && caught && begun.load() > thrower && each_item_once(37, kThreads);
    }
    return right;
}

/// Another thread's products hold the library's memory at the moment of the fork.
bool multiplies_in_a_child(int rounds) {
    constexpr std::int64_t kSize = 64;
    const std::vector<float> ones(kSize * kSize, 1.0F);
    const auto multiplies = [&ones] {
        std::vector<float> c(kSize * kSize);
        sgemm(false, kSize, kSize, kSize, 1.0F, ones.data(), kSize, ones.data(), kSize, 0.0F,
              c.data(), kSize);
        return std::ranges::all_of(c, [](float x) { return x == static_cast<float>(kSize); });
    };
    std::atomic<bool> done{false}, stopped{false};
    std::thread([&] {
        while (!done) multiplies();
        stopped = true;
    }).detach();
    bool right = true;
    for (int round = 0; round < rounds; ++round) {
        const pid_t child = fork();
        if (child == 0) std::_Exit(multiplies() ? 0 : 1);
        int status = -1;
        right = right && child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
                WEXITSTATUS(status) == 0;
    }
    done = true;
    while (!stopped) std::this_thread::yield();
    return right;
}

bool child_works(int rounds) {
    const pid_t child = fork();
    if (child == 0) std::_Exit(many_fork_joins(rounds) && several_callers(rounds / 4) ? 0 : 1);
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/// fork at any moment of another thread's fork-joins. That thread is detached: the sanitizer takes
/// a joinable one for alive in the child as well, and stops when a new thread gets its address.
bool fork_under_load(int rounds) {
    std::atomic<bool> done{false}, stopped{false};
    std::thread([&done, &stopped] {
        while (!done) many_fork_joins(10);
        stopped = true;
    }).detach();
    bool right = true;
    for (int round = 0; round < rounds; ++round) right = child_works(40) && right;
    done = true;
    while (!stopped) std::this_thread::yield();
    return right;
}

using Random = std::mt19937;

std::int64_t between(Random& random, std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

/// Shapes and attributes of one random call of an op; sizes that are large enough to be split.
Call random_call(std::string_view op, Random& random) {
    Call call;
    const bool dense =  // work per element, not only traffic
        op == "matmul" || op.starts_with("attention");
    const std::int64_t rows = between(random, 1, 130);
    const std::int64_t columns = between(random, 1, dense ? 300 : 4000);
    auto give = [&call](std::size_t slot, const Shape& shape) {
        call.inputs[slot].shape = shape;
        call.inputs[slot].present = true;
    };
    if (op == "matmul") {
        const std::int64_t depth = between(random, 1, 100);
        const bool transpose = between(random, 0, 1) == 1;
        give(0, {rows, depth});
        give(1, transpose ? Shape{columns, depth} : Shape{depth, columns});
        if (between(random, 0, 1) == 1) give(2, {columns});
        if (between(random, 0, 1) == 1) give(3, {rows, columns});
        call.attributes.transpose_b = transpose;
        call.attributes.alpha = 0.5F;
        call.attributes.activation = static_cast<Activation>(between(random, 0, 5));
    } else if (op == "permute") {
        give(0, {between(random, 1, 6), rows, columns});
        constexpr std::array<std::array<int, 3>, 4> orders = {
            {{0, 2, 1}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0}}};
        for (const int axis : orders[static_cast<std::size_t>(between(random, 0, 3))]) {
            call.attributes.perm.append(axis);
        }
    } else if (op == "slice") {
        give(0, {rows, 8, columns});
        call.attributes.axis = 1;
        call.attributes.start = 2;
        call.attributes.stop = between(random, 3, 8);
    } else if (op == "take") {
        give(0, {between(random, 1, 6), rows, columns});
        give(1, {between(random, 1, 200)});
        call.attributes.axis = 1;
    } else if (op == "concat") {
        for (const std::size_t slot : {0, 1, 3}) give(slot, {rows, between(random, 1, 6), columns});
        call.attributes.axis = 1;
    } else if (op == "attention") {
        const std::int64_t batch = between(random, 1, 2), kv_heads = between(random, 1, 3);
        const std::int64_t keys = between(random, 1, 90), size = between(random, 1, 33);
        const std::int64_t heads = kv_heads * between(random, 1, 3);
        const std::int64_t value_size = between(random, 1, 33);
        const auto layout = static_cast<Layout>(between(random, 0, 2));
        if (layout == Layout::qkv) {
            give(0, {batch, rows, 3, heads, size});
        } else if (layout == Layout::bshd) {
            give(0, {batch, rows, heads, size});
            give(1, {batch, keys, kv_heads, size});
            give(2, {batch, keys, kv_heads, value_size});
        } else {
            give(0, {batch, heads, rows, size});
            give(1, {batch, kv_heads, keys, size});
            give(2, {batch, kv_heads, keys, value_size});
        }
        const std::int64_t visible = layout == Layout::qkv ? rows : keys;
        if (between(random, 0, 1) == 1) give(3, {heads, 1, visible});
        call.attributes.scale = 0.25F;
        call.attributes.causal = between(random, 0, 1) == 1;
        if (call.attributes.causal) call.attributes.window = between(random, 0, 40);
        call.attributes.tile_q = between(random, 0, 40);
        call.attributes.tile_k = between(random, 0, 40);
        call.attributes.layout = layout;
    } else if (op.starts_with("attention_")) {
        const std::int64_t batch = between(random, 1, 2), heads = between(random, 1, 3);
        const std::int64_t keys = between(random, 1, 300), size = between(random, 1, 33);
        give(0, {batch, heads, rows, size});
        for (const std::size_t slot : {1, 2}) give(slot, {batch, heads, keys, size});
        if (op == "attention_backward") {
            for (const std::size_t slot : {3, 5}) give(slot, {batch, heads, rows, size});
            give(4, {batch, heads, rows});
        }
        call.attributes.scale = 0.25F;
        call.attributes.causal = between(random, 0, 1) == 1;
    } else if (op == "layer_norm") {
        give(0, {rows, columns});
        give(1, {columns});
        give(2, {columns});
    } else if (op == "rms_norm") {
        give(0, {rows, columns});
        give(1, {columns});
    } else if (op == "rotary") {
        const std::int64_t heads = between(random, 1, 5), half = between(random, 1, 33);
        const bool heads_last = between(random, 0, 1) == 1;
        const std::int64_t head_dim = 2 * half + between(random, 0, 3);
        if (heads_last) {
            give(0, {2, rows, heads, head_dim});
        } else {
            give(0, {2, heads, rows, head_dim});
        }
        for (const std::size_t slot : {1, 2}) give(slot, {rows, half});
        call.attributes.layout = heads_last ? Layout::bshd : Layout::bhsd;
        call.attributes.pairs = between(random, 0, 1) == 1 ? Pairs::halves : Pairs::interleaved;
    } else if (op == "silu_mul") {
        for (const std::size_t slot : {0, 1}) give(slot, {rows, columns});
    } else if (op == "bias_relu") {
        give(0, {rows, columns});
        give(1, {columns});
    } else if (find_op(op).slots == std::string_view("a b")) {  // the ops that broadcast
        give(0, {rows, columns});
        give(1, between(random, 0, 1) == 1 ? Shape{rows, 1} : Shape{rows, columns});
    } else if (op == "where") {
        give(0, {rows, columns});
        give(1, {rows, columns});
        give(2, {});
    } else {
        give(0, {rows, columns});
        if (op == "gelu") {
            call.attributes.approximate = static_cast<GeluForm>(between(random, 0, 2));
        }
    }
    return call;
}

/// The call's arrays, filled with random numbers.
class Arrays {
  public:
    Arrays(Call& call, const OpInfo& op, Random& random) {
        std::normal_distribution<float> normal;
        for (std::size_t slot = 0; slot < kMaxInputs; ++slot) {
            TensorView& view = call.inputs[slot];
            if (!view.present) continue;
            inputs_[slot].resize(static_cast<std::size_t>(view.shape.count()));
            for (float& value : inputs_[slot]) value = normal(random);
            if (op.slots == std::string_view("x ids") && slot == 1) {
                const std::int64_t rows = call.inputs[0].shape[1];
                for (float& id : inputs_[slot]) {
                    id = static_cast<float>(between(random, 0, rows - 1));
                }
            }
            view.data = inputs_[slot].data();
        }
        call.output.shape = op.infer(call);
        call.output.present = true;
    }

  private:
    std::array<std::vector<float>, kMaxInputs> inputs_;
};

std::vector<float> run_kernel(const KernelInfo& kernel, Call call, int threads = kMaxThreads) {
    std::vector<float> output(static_cast<std::size_t>(call.output.shape.count()), NAN);
    call.output.data = output.data();
    call.threads = std::min(num_threads(), threads);
    const auto bytes = static_cast<std::size_t>(align_up(kernel.scratch(call, call.threads)));
    const auto release = [](std::byte* memory) {
        ::operator delete(memory, std::align_val_t{kAlignment});
    };
    const std::unique_ptr<std::byte, decltype(release)> scratch(
        static_cast<std::byte*>(::operator new(bytes + kAlignment, std::align_val_t{kAlignment})),
        release);
    call.scratch = scratch.get();
    kernel.function(call);
    return output;
}

/// Both answer to float64 references elsewhere; here a race shows as a gross difference.
bool close(const std::vector<float>& one, const std::vector<float>& other) {
    for (std::size_t i = 0; i < one.size(); ++i) {
        if (std::isnan(one[i]) && std::isnan(other[i])) continue;
        if (!(std::fabs(one[i] - other[i]) <= 1e-3F * (1.0F + std::fabs(other[i])))) return false;
    }
    return true;
}

void kernels_against_serial(int rounds) {
    Random random(1);
    for (const KernelInfo& parallel : kernels()) {
        if (!parallel.parallel) continue;
        const OpInfo& op = find_op(parallel.op);
        // The best serial kernel of the op; the same on one thread where there is none.
        const KernelInfo* serial = &parallel;
        for (const KernelInfo& candidate : kernels()) {
            if (candidate.op == std::string_view(parallel.op) && !candidate.parallel) {
                serial = &candidate;
            }
        }
        bool right = true;
        for (int round = 0; right && round < rounds; ++round) {
            Call call = random_call(parallel.op, random);
            const Arrays arrays(call, op, random);
            right = close(run_kernel(parallel, call), run_kernel(*serial, call, 1));
        }
        expect(right, parallel.name);
    }
}

/// Whole kernels from several threads: one has the pool, the others must go serial with their own
/// scratch.
bool kernels_from_several_threads(int rounds) {
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (unsigned seed = 0; seed < 3; ++seed) {
        callers.emplace_back([&wrong, seed, rounds] {
            Random random(seed);
            const KernelInfo& serial = find_kernel("attention_fused_simd");
            for (int round = 0; round < rounds; ++round) {
                const KernelInfo& parallel =
                    find_kernel(round % 2 == 0 ? "attention_fused_simd_parallel"
                                               : "attention_flash_packed_simd_parallel");
                Call call = random_call("attention", random);
                const Arrays arrays(call, find_op("attention"), random);
                if (!close(run_kernel(parallel, call), run_kernel(serial, call))) ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    return wrong == 0;
}

/// Scratch is sized before the kernel reads num_threads(): a rise in between must not overrun it.
bool kernels_while_threads_change(int rounds) {
    std::atomic<bool> done{false};
    std::thread changer([&done] {
        while (!done) {
            set_num_threads(1);
            set_num_threads(kThreads);
        }
    });
    const bool right = kernels_from_several_threads(rounds);
    done = true;
    changer.join();
    set_num_threads(kThreads);
    return right;
}

int run_all(int factor) {
    const char* library = std::getenv("ABLATION_OPENBLAS");
    blas_initialize(library == nullptr ? "" : library);
    set_num_threads(kThreads);
    expect(num_threads() == kThreads, "set_num_threads");
    expect(many_fork_joins(1000 * factor), "many fork-joins");
    expect(ranges_cover(600 * factor), "ranges");
    expect(fork_joins_while_threads_change(600 * factor), "threads change");
    expect(several_callers(300 * factor), "several callers");
    expect(nested(100 * factor), "nested");
    expect(exceptions_reach_the_caller(300 * factor), "exceptions");
    expect(child_works(200 * factor), "fork");
    expect(fork_under_load(5 * factor), "fork under load");
    expect(multiplies_in_a_child(40 * factor), "products in a child");
    expect(many_fork_joins(100 * factor), "parent after fork");
    kernels_against_serial(10 * factor);
    expect(kernels_from_several_threads(10 * factor), "kernels from several threads");
    expect(kernels_while_threads_change(10 * factor), "kernels while threads change");
    expect(stages_from_several_threads(30 * factor), "stages from several threads");
    expect(workspace_of_several_threads(30 * factor), "workspace of several threads");
    expect(teaching_forms_on_threads(30 * factor), "teaching set");
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ablation

int main(int argc, char** argv) { return ablation::run_all(argc > 1 ? std::atoi(argv[1]) : 1); }
