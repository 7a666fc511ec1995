#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace lf {
namespace {

TEST(RunParallel, TakesEveryIndexOnce) {
  for (const int threads : {-1, 1, 3, 16}) {
    std::vector<std::atomic<int>> taken(10);
    run_parallel(taken.size(), threads, [&](uint64_t i) { ++taken[i]; });
    for (const std::atomic<int>& count : taken) EXPECT_EQ(count, 1) << threads << " threads";
  }
  run_parallel(0, 4, [](uint64_t) { FAIL(); });
}

TEST(RunParallel, OneThreadIsTheCallersAndInOrder) {
  const std::thread::id caller = std::this_thread::get_id();
  std::vector<uint64_t> order;
  run_parallel(5, 1, [&](uint64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<uint64_t>{0, 1, 2, 3, 4}));
}

TEST(RunParallel, AnExceptionEndsTheLoopAndIsRethrown) {
  for (const int threads : {1, 4}) {
    std::atomic<int> begun = 0;
    EXPECT_THROW(run_parallel(100'000, threads,
                              [&](uint64_t) {
                                ++begun;
                                throw std::runtime_error("stop");
                              }),
                 std::runtime_error);
    EXPECT_LE(begun, threads);
  }
}

}  // namespace
}  // namespace lf
