// The native module: nanobind only, no logic.
#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "attention/bf16.h"
#include "bindings/array.h"
#include "bindings/gil.h"
#include "core/blas.h"
#include "core/ceilings.h"
#include "core/clock.h"
#include "core/parallel.h"
#include "isa/simd.h"

namespace ablation {

namespace {

const char* gemm_name(Gemm gemm) {
    switch (gemm) {
        case Gemm::none:
            return "none";
        case Gemm::scalar:
            return "scalar";
        case Gemm::blas:
            return "blas";
        case Gemm::packed:
            return "packed";
    }
    return "none";
}

// Who does the primitive work under a kernel here: "avx512+openblas+pool".
std::string provider_of(const KernelInfo& kernel) {
    std::string provider;
    const auto append = [&](const std::string& name) {
        provider += (provider.empty() ? "" : "+") + name;
    };
    if (kernel.gemm == Gemm::packed) {
        append(instruction_set().name());
    } else if (kernel.simd && std::string_view(kernel.op) != "matmul") {
        append(simd().name);
    }
    if (kernel.gemm == Gemm::blas) append(blas_info().provider);
    if (kernel.parallel) append(parallel_provider());
    return provider.empty() ? "scalar" : provider;
}

nb::list kernel_rows() {
    nb::list rows;
    for (const KernelInfo& kernel : kernels()) {
        rows.append(nb::make_tuple(kernel.name, kernel.op, kernel.form, kernel.simd,
                                   kernel.parallel, gemm_name(kernel.gemm), provider_of(kernel),
                                   kernel.idea));
    }
    return rows;
}

nb::list op_rows() {
    nb::list rows;
    for (const OpInfo& op : ops()) {
        const RowInfo* info = find_rows(op);
        rows.append(nb::make_tuple(op.name, op.slots, op.in_place,
                                   info == nullptr ? "" : info->slots, attribute_rows(op)));
    }
    return rows;
}

nb::dict build_info() {
    nb::dict info;
    info["table_version"] = kTableVersion;
    info["compiler"] = ABLATION_COMPILER;
    info["flags"] = ABLATION_FLAGS;
    info["sanitizer"] = ABLATION_SANITIZER;
    info["isa_built"] = simd_built();
    info["isa_available"] = simd_available();
    info["isa_bf16_available"] = simd_bf16_available();
    info["isa_used"] = simd().name;
    info["isa_packed"] = instruction_set().name();
    info["isa_bf16"] = std::string(attention_bf16_instruction_set());
    info["simd"] = simd().name;
    info["parallel"] = parallel_provider();
    info["blas"] = blas_info().provider;
    info["blas_core"] = blas_info().core;
    info["blas_core_wanted"] = blas_info().wanted_core;
    info["blas_library"] = blas_info().library;
    info["clock"] = clock_name();
    return info;
}

void initialize(const std::string& blas_path) {
    // What threads hold that never end is not lost by a fault of anyone.
    nb::set_leak_warnings(false);
    nb::module_::import_("atexit").attr("register")(nb::cpp_function(&wait_for_calls));
    simd();  // an ABLATION_SIMD that cannot be had fails here: kernels must not throw
    blas_initialize(blas_path);
    // Fills its static handles while one thread is here: a second one would wait for them with the
    // GIL held.
    new_array(Shape{1});
}

nb::tuple ceilings_row() {
    const auto measured = [] {
        const ReleasedGil released;
        return measure_ceilings();
    }();
    return nb::make_tuple(measured.provider, num_threads(), measured.multiply_add_flops_per_s,
                          measured.memory_bytes_per_s, measured.fork_join_ns);
}

void set_threads(nb::handle threads) {
    const int n = threads_from({"set_num_threads", "n"}, threads);
    const ReleasedGil released;
    set_num_threads(n);
}

}  // namespace

}  // namespace ablation

NB_MODULE(_native, m) {
    using namespace ablation;
    m.doc() = "Native half of ablation_kernels.";
    m.def("initialize", &initialize, nb::arg("blas_path"),
          "Chooses the vector instructions and loads the BLAS library, once.");
    m.def("kernel_rows", &kernel_rows);
    m.def("op_rows", &op_rows);
    m.def("build_info", &build_info);
    m.def("set_num_threads", &set_threads, nb::arg("n"));
    m.def("get_num_threads", &num_threads);
    m.def("clock_overhead_ns", &clock_overhead_ns);
    m.def("measure_ceilings", &ceilings_row);
    bind_functions(m);
    bind_bf16(m);
    bind_program(m);
    bind_teaching(m);
}
