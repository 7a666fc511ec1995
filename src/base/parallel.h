// A loop whose iterations run on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace lf {

// Calls body(0) ... body(count - 1) on at most `threads` threads, the caller's among them; threads
// take the next index when they are free. After an exception no further index is begun, and the
// first exception is rethrown once all threads are done.
void run_parallel(uint64_t count, int threads, const std::function<void(uint64_t)>& body);

}  // namespace lf
