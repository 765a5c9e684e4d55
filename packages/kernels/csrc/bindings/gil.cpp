#include "bindings/gil.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace nb = nanobind;

namespace ablation {

namespace {

/// Calls that run without the GIL. Changed by threads that have it.
std::atomic<int> in_flight{0};
std::atomic<bool> closing{false};
std::atomic<bool> abandoned{false};

[[noreturn]] void stop_for_ever() {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
}

/// A child has none of the threads whose calls were in flight.
[[maybe_unused]] const int counts_own_calls =
    pthread_atfork(nullptr, nullptr, [] { in_flight.store(0); });

void take_gil(PyThreadState* state) {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {  // pthread_exit, where it unwinds: it must not get any further
        stop_for_ever();
    }
}

}  // namespace

ReleasedGil::ReleasedGil() {
    if (closing.load()) return;
    in_flight.fetch_add(1);
    state_ = PyEval_SaveThread();
}

ReleasedGil::~ReleasedGil() {
    if (state_ == nullptr) return;
    if (abandoned.load()) stop_for_ever();
    take_gil(state_);
    in_flight.fetch_sub(1);
}

void offer_gil() {
    if (!closing.load()) return;
    PyThreadState* state = PyEval_SaveThread();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    take_gil(state);
}

void wait_for_calls() {
    closing.store(true);
    while (in_flight.load() > 0) {
        {
            const nb::gil_scoped_release released;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        if (PyErr_CheckSignals() != 0) {
            abandoned.store(true);
            throw nb::python_error();
        }
    }
}

}  // namespace ablation
