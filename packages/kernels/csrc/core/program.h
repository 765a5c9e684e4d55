// A program: calls resolved to function pointers and views over one arena, and the loop that runs
// them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "table.h"
#include "types.h"

namespace ablation {

/// Where a value of a program lives.
enum class Storage : std::uint8_t { input, constant, arena, output, alias };

struct ValueSpec {
    Storage storage = Storage::arena;
    Shape shape;
    float* data = nullptr;    ///< constant: its elements, kept alive by the owner of the program
    std::int64_t offset = 0;  ///< arena: bytes from its start
    int source = -1;          ///< alias: the value whose memory this is
};

struct CallSpec {
    std::string kernel;
    std::vector<int> inputs;  ///< value per slot; -1: absent
    int output = -1;
    Attributes attributes;
    std::int64_t scratch_offset = 0;
    std::string name;
};

/// Zero-filled pages that the system provides on first touch.
class Arena {
  public:
    explicit Arena(std::int64_t bytes);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    std::byte* data() const { return data_; }
    std::int64_t bytes() const { return bytes_; }

  private:
    std::byte* data_ = nullptr;
    std::int64_t bytes_ = 0;
};

/// A child made by fork while another thread runs a program must build its own: the one it has
/// inherited stays locked.
class Program {
  public:
    /// Checks every call against its op's shape rule, every offset against the arena, that no value
    /// is read before it is written and that what a call writes overlaps nothing it reads (in-place
    /// slots apart). Throws ValueError that names the call. Scratch is sized for the num_threads()
    /// of now.
    Program(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
            std::int64_t arena_bytes);

    /// Runs all calls in order. inputs and outputs: one pointer per input and output value, in
    /// their order. times_ns: nanoseconds of each call, or null. Returns the nanoseconds of the
    /// loop (0 without times). Allocates nothing. Two threads that run one program take turns: they
    /// share its arena.
    std::int64_t run(std::span<float* const> inputs, std::span<float* const> outputs,
                     std::int64_t* times_ns);

    std::span<const Shape> input_shapes() const { return input_shapes_; }
    std::span<const Shape> output_shapes() const { return output_shapes_; }
    std::span<const std::string> names() const { return names_; }
    std::int64_t arena_bytes() const { return arena_.bytes(); }
    /// Bytes of constants kept once more in a kernel's own layout.
    std::int64_t packed_bytes() const { return packed_bytes_; }
    /// Whether run() reads the elements of a constant where they were given; false for one that is
    /// read packed alone.
    bool reads_constant(int value) const;

  private:
    struct Step {
        KernelFunction function;
        Call call;
    };
    /// A view whose pointer is known only when run() is called.
    struct Binding {
        std::size_t step;
        int slot;  // kMaxInputs: the output
        std::size_t index;
        bool is_output;
    };

    void add_step(const std::vector<ValueSpec>& values, const CallSpec& spec,
                  std::vector<bool>& written);
    TensorView view(const std::vector<ValueSpec>& values, int value, const Shape& shape) const;
    /// Puts the call's constant into its kernel's own layout, if the kernel has one.
    void pack(const std::vector<ValueSpec>& values, const KernelInfo& kernel, const CallSpec& spec,
              Call& call);
    void bind(const std::vector<ValueSpec>& values, int value, int slot);

    Arena arena_;
    std::vector<std::unique_ptr<Arena>> packed_;
    std::int64_t packed_bytes_ = 0;
    std::vector<bool> read_;  // values whose own elements a step reads
    std::vector<Step> steps_;
    std::vector<Binding> bindings_;
    std::vector<std::string> names_;
    std::vector<Shape> input_shapes_;
    std::vector<Shape> output_shapes_;
    std::vector<std::size_t> ordinal_;  // position of an input or output value among its kind
    int threads_;
    std::mutex running_;
};

}  // namespace ablation
