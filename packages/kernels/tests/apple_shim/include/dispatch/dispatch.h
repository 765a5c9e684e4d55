// Stand-in for Apple's <dispatch/dispatch.h>: the functions that the kernels use.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

typedef struct dispatch_queue_s* dispatch_queue_t;
typedef dispatch_queue_t dispatch_queue_global_t;
typedef void (*dispatch_apply_function_t)(void* context, std::size_t iteration);

enum : unsigned {
    QOS_CLASS_USER_INTERACTIVE = 0x21,
    QOS_CLASS_USER_INITIATED = 0x19,
    QOS_CLASS_DEFAULT = 0x15,
};

dispatch_queue_global_t dispatch_get_global_queue(std::intptr_t identifier, std::uintptr_t flags);
void dispatch_apply_f(std::size_t iterations, dispatch_queue_t queue, void* context,
                      dispatch_apply_function_t work);
}
