#include "comm/threads.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace lf {

int threads_of_rank(const World& world, int asked) {
  if (asked > 0) return asked;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int usable = ::sched_getaffinity(0, sizeof(cores), &cores) == 0
                         ? CPU_COUNT(&cores)
                         : static_cast<int>(std::thread::hardware_concurrency());
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  // A launcher that bound each rank has divided the cores already.
  return std::max(1, usable < all ? usable : usable / world.local_size());
}

}  // namespace lf
