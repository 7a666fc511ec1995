#include "base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lf {

void run_parallel(uint64_t count, int threads, const std::function<void(uint64_t)>& body) {
  std::atomic<uint64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr error;
  std::mutex mutex;
  const auto work = [&] {
    for (uint64_t i = next++; i < count && !failed; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> workers;
  const auto wanted = std::min<uint64_t>(count, static_cast<uint64_t>(std::max(1, threads)));
  for (uint64_t t = 1; t < wanted; ++t) workers.emplace_back(work);
  work();
  workers.clear();
  if (error) std::rethrow_exception(error);
}

}  // namespace lf
