// Who may multiply through OpenBLAS, and the memory it does it in.
//
// OpenBLAS maps a buffer for each product in flight, keeps it for later ones, and calls exit(1)
// where it cannot map one. So a thread needs a lane to multiply. A lane is opened with memory
// reserved for one buffer, and the library's calls of mmap are led to what is reserved: products in
// flight never outnumber the lanes, so the library never asks for memory that is not there.
#pragma once

#if !defined(ABLATION_APPLE)

#include <atomic>

namespace ablation {

/// Leads the library's calls of mmap to reserved memory; called once, right after it is loaded.
/// Throws std::runtime_error if it calls none.
void open_blas_lanes(void* library);

/// Throws std::bad_alloc where loading the library could not map its first buffer.
void require_memory_to_load_blas();

/// The right to run one product, until the end of the scope. A thread keeps its lane from product
/// to product. One that finds no memory or number left for a lane of its own waits for another
/// thread's. Throws std::bad_alloc where there is no lane at all. Waits while the process forks,
/// and for ever once it exits: the library then unmaps its buffers.
class BlasLane {
  public:
    BlasLane();
    ~BlasLane();
    BlasLane(const BlasLane&) = delete;
    BlasLane& operator=(const BlasLane&) = delete;

  private:
    std::atomic<bool>* in_use_;
};

}  // namespace ablation

#endif
