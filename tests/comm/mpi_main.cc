// GoogleTest under mpirun: every rank runs every test, rank 0 prints, a failure on any rank fails
// that test's line and the run on all.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "base/log.h"
#include "comm/world.h"

namespace lf {
namespace {

class JoinOutcomes : public ::testing::EmptyTestEventListener {
 public:
  explicit JoinOutcomes(World& world) : world_(world) {}

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (world_.is_root() || !result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", world_.rank(),
                 result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                 result.message());
  }
  void OnTestEnd(const ::testing::TestInfo& info) override {
    const bool failed = info.result()->Failed();
    const int64_t failures = world_.sum(static_cast<int64_t>(failed));
    if (failures > 0 && world_.is_root() && !failed) {
      std::printf("[  FAILED  ] %s.%s on %d other ranks\n", info.test_suite_name(), info.name(),
                  static_cast<int>(failures));
    }
  }

 private:
  World& world_;
};

}  // namespace
}  // namespace lf

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  lf::World& world = lf::World::join();
  lf::start_log("mpi_tests", world.rank());
  at::set_num_threads(1);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (!world.is_root()) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new lf::JoinOutcomes(world));
  const auto status = world.max(static_cast<int64_t>(RUN_ALL_TESTS()));
  world.barrier();
  // Every rank knows the outcome, so exit in order: MPI_Abort would only add noise.
  lf::World::end(0);
  return static_cast<int>(status);
}
