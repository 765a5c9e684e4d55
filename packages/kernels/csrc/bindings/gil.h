// The interpreter lock (GIL) around a kernel, safe at the end of the interpreter.
#pragma once

#include <nanobind/nanobind.h>

namespace ablation {

/// Releases the GIL until the end of the scope. Every binding that computes uses this and nothing
/// else: a thread that asks for the GIL after the interpreter has ended is ended by CPython (before
/// 3.14) through frames that cannot be unwound, which aborts the process.
///
/// So the interpreter waits for the calls in flight before it ends (`wait_for_calls`), and a call
/// that starts after that keeps the GIL. Ctrl-C ends the wait; threads that come back later stop
/// here for ever.
class ReleasedGil {
  public:
    ReleasedGil();
    ~ReleasedGil();
    ReleasedGil(const ReleasedGil&) = delete;
    ReleasedGil& operator=(const ReleasedGil&) = delete;

  private:
    PyThreadState* state_ = nullptr;
};

/// Comes before the import of an array. Python code may run there (`__dlpack__` of a tensor), which
/// must not lose the GIL to an interpreter that ends: once that is near, the GIL is first offered
/// to who waits for it, and is then held for less than a switch interval.
void offer_gil();

/// For `atexit`.
void wait_for_calls();

}  // namespace ablation
