// A program: calls resolved to function pointers and views over one arena, and the loop that runs
// them.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "table.h"
#include "types.h"
#include "workspace.h"

namespace ablation {

/// Where a value of a program lives.
enum class Storage : std::uint8_t { input, constant, arena, output, alias };

struct ValueSpec {
    Storage storage = Storage::arena;
    Shape shape;
    float* data = nullptr;     ///< constant: its elements, kept alive by the owner of the program
    std::int64_t offset = 0;   ///< arena: bytes from its start
    int source = -1;           ///< alias: the value whose memory this is
    bool is_borrowed = false;  ///< constant: others may write to `data`, so the program copies it
};

struct CallSpec {
    std::string kernel;
    std::vector<int> inputs;  ///< value per slot; -1: absent
    int output = -1;
    Attributes attributes;
    std::int64_t scratch_offset = 0;
    std::string name;
};

/// Consecutive calls that share one fork-join: each thread runs them all on rows of its own.
struct StageSpec {
    std::size_t first = 0;
    std::size_t count = 0;
};

/// Throws the ValueError of a program: where it is wrong, and what was found and is accepted.
[[noreturn]] void reject_program(const std::string& where, const std::string& what);
/// The value whose memory a value is: itself unless it is an alias.
int root_of(const std::vector<ValueSpec>& values, int value);

class Program {
  public:
    /// Checks every call against its op's shape rule, every offset against the arena, that no value
    /// is read before it is written and that what a call writes overlaps nothing it reads (in-place
    /// slots apart). Throws ValueError that names the call. Scratch is sized for the num_threads()
    /// of now.
    /// A stage is refused as well where the rows of one thread would overlap what another reads or
    /// writes.
    /// Without a workspace the program has one of its own. With one it shares the arena and the
    /// packed copies of constants that are not borrowed, and waits for the program that runs in it.
    Program(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
            std::int64_t arena_bytes, const std::vector<StageSpec>& stages = {},
            std::shared_ptr<Workspace> workspace = nullptr);

    /// Runs all calls in order. inputs and outputs: one pointer per input and output value, in
    /// their order. times_ns: nanoseconds of each call, or null. Returns the nanoseconds of the
    /// loop (0 without times). Allocates nothing. Programs of one workspace take turns, and so do
    /// two threads that run one program: they share an arena. Throws ValueError where num_threads()
    /// is larger than it was at construction, IndexError for a call whose input names an element
    /// that is not there; the outputs are then partly written.
    std::int64_t run(std::span<float* const> inputs, std::span<float* const> outputs,
                     std::int64_t* times_ns);

    std::span<const Shape> input_shapes() const { return input_shapes_; }
    std::span<const Shape> output_shapes() const { return output_shapes_; }
    std::span<const std::string> names() const { return names_; }
    std::int64_t arena_bytes() const { return arena_bytes_; }
    /// Bytes of constants that it reads in a kernel's own layout, each counted once.
    std::int64_t packed_bytes() const { return packed_bytes_; }
    /// Bytes of borrowed constants that run() reads, copied.
    std::int64_t copied_bytes() const { return copied_bytes_; }
    /// Whether the owner has to keep a constant that is not borrowed: a call reads the elements as
    /// they were given, or a workspace knows the packed copy by their address. True as well for a
    /// borrowed one that a call reads as it was copied.
    bool keeps_constant(int value) const;
    /// Writes a constant as it was given, bit by bit, from a packed copy; false, and nothing
    /// written, where no copy has all of it.
    bool unpack(int value, float* elements) const;

  private:
    struct Step {
        KernelFunction function;
        Call call;
    };
    /// Steps that run one after another, or as a stage.
    struct Stage {
        std::size_t first = 0;
        std::size_t count = 0;
        /// calls[worker][step - first]; empty outside a stage.
        std::vector<std::vector<Call>> calls;
    };
    /// A view whose pointer is known only when run() is called.
    struct Binding {
        TensorView* view;
        std::int64_t offset;  // elements
        std::size_t index;
        bool is_output;
    };
    /// A view or a scratch in the arena, which is elsewhere once the workspace has a larger one.
    struct ArenaView {
        TensorView* view;
        std::int64_t offset;  // bytes
    };
    struct ArenaScratch {
        Call* call;
        std::int64_t offset;
    };
    /// What a call may read or write: bytes of a bound array, or addresses (space -1).
    struct Region {
        int space;
        std::int64_t begin, end;
        bool written;
    };

    void add_step(const std::vector<ValueSpec>& values, const CallSpec& spec,
                  std::vector<bool>& written);
    TensorView view(const std::vector<ValueSpec>& values, int value, const Shape& shape) const;
    /// Gives the call its scratch inside the arena, apart from all that the call reads and writes.
    void place_scratch(std::int64_t offset, std::int64_t bytes, Call& call) const;
    /// Puts the call's constant into its kernel's own layout, if the kernel has one.
    void pack(const std::vector<ValueSpec>& values, const KernelInfo& kernel, const CallSpec& spec,
              Call& call);
    /// Has the steps read copies of the borrowed constants.
    void copy_borrowed(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls);
    void bind(const std::vector<ValueSpec>& values, int value, TensorView& view,
              std::int64_t offset);
    void bind_call(const std::vector<ValueSpec>& values, const CallSpec& spec, Call& call,
                   const Call& whole, std::int64_t first_row);
    void add_stages(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
                    const std::vector<StageSpec>& stages);
    Stage make_stage(const std::vector<CallSpec>& calls, const StageSpec& spec) const;
    void check_stage(const std::vector<ValueSpec>& values, const std::vector<CallSpec>& calls,
                     const Stage& stage) const;
    std::vector<Region> regions(const std::vector<ValueSpec>& values, const CallSpec& spec,
                                const Call& call, const Call& whole, std::int64_t scratch_bytes,
                                std::int64_t first_row) const;
    void move_to(std::byte* arena);
    /// Runs a step; an IndexError of its kernel names the call.
    void run_step(std::size_t index) const;
    void run_stage(const Stage& stage, std::int64_t* times_ns);

    bool is_shared_;
    std::shared_ptr<Workspace> workspace_;
    std::int64_t arena_bytes_;
    std::atomic<std::byte*> arena_ = nullptr;  // where the views and scratches lie now
    std::vector<ArenaView> arena_views_;
    std::vector<ArenaScratch> arena_scratches_;
    PackedConstants borrowed_;  // not shared: who owns the array may write to it
    std::vector<std::shared_ptr<const PackedConstant>> packed_;
    std::int64_t packed_bytes_ = 0;
    /// A packed copy that has all of a constant, by the value.
    std::map<std::size_t, std::shared_ptr<const PackedConstant>> whole_;
    std::vector<std::unique_ptr<Arena>> copied_;
    std::int64_t copied_bytes_ = 0;
    std::vector<bool> kept_;  // see keeps_constant
    std::vector<Step> steps_;
    std::vector<Stage> stages_;
    std::vector<Binding> bindings_;
    std::vector<std::string> names_;
    std::vector<Shape> input_shapes_;
    std::vector<Shape> output_shapes_;
    std::vector<std::size_t> ordinal_;  // position of an input or output value among its kind
    int threads_;
};

}  // namespace ablation
