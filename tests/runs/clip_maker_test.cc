// Clips made in groups over the ranks: the same bytes for any number of ranks and batches, and
// nothing made twice after an interruption.
#include "run/clip_maker.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "base/stop.h"
#include "run/clips.h"
#include "tests/error_of.h"

namespace lf {
namespace {

constexpr Chunks kGroups{45, 8};

// A model whose clip `n` is of frames (n + t) / 64 - 1 throughout: [count, 3, 2, 2, 1].
at::Tensor ramp(int64_t first, int64_t count) {
  const at::Tensor number = at::arange(first, first + count).view({-1, 1, 1, 1, 1});
  const at::Tensor frame = at::arange(3).view({1, 3, 1, 1, 1});
  return ((number + frame).to(at::kFloat) / 64 - 1).expand({count, 3, 2, 2, 1}).contiguous();
}

ClipMaker maker_of(int64_t batch, const ChunkCache& kept = {}) {
  return {ramp, {.what = "samples", .groups = kGroups, .batch = batch, .kept = kept}};
}

// The clips of all ranks, on rank 0.
at::Tensor all_clips(ClipMaker maker) {
  World& world = World::join();
  std::vector<at::Tensor> own;
  maker.for_own_groups(world, "test", [&](const at::Tensor& clips) { own.push_back(clips); });
  return gather_rows(world, own);
}

class ClipMakers : public testing::Test {
 protected:
  ClipMakers()
      : folder_(World::join().broadcast(testing::TempDir() + str("lf-clips-", ::getpid()))) {}
  ~ClipMakers() override {
    World::join().barrier();
    if (World::join().is_root()) std::filesystem::remove_all(folder_);
    World::join().barrier();  // before the next test begins in the same folder
  }
  ChunkCache kept(const std::string& key) const { return {folder_, "clips", key}; }
  const std::string folder_;
};

TEST_F(ClipMakers, RanksAndBatchesDoNotChangeTheBytes) {
  const at::Tensor expected = bytes_of(ramp(0, kGroups.count));
  for (const int64_t batch : {1, 3, 8, 100}) {
    const at::Tensor made = all_clips(maker_of(batch));
    if (World::join().is_root()) {
      EXPECT_TRUE(at::equal(made, expected)) << "batches of " << batch;
    }
  }
}

TEST_F(ClipMakers, OfAnInterruptedStartTheFinishedGroupsAreTaken) {
  World& world = World::join();
  const int64_t own = kGroups.first(world.rank(), world.size());
  ClipMaker interrupted = maker_of(4, kept("a key"));
  const bool has_group = own < kGroups.first(world.rank() + 1, world.size());
  if (has_group) interrupted.group(own);  // and then it is killed
  world.barrier();

  ClipMaker resumed = maker_of(4, kept("a key"));
  std::vector<at::Tensor> clips;
  resumed.for_own_groups(world, "test", [&](const at::Tensor& group) { clips.push_back(group); });
  EXPECT_EQ(world.sum(interrupted.made() + resumed.made()), kGroups.count);
  EXPECT_EQ(interrupted.made(), has_group ? kGroups.length(own) : 0);
  const at::Tensor made = gather_rows(world, clips);
  if (world.is_root()) {
    EXPECT_TRUE(at::equal(made, bytes_of(ramp(0, kGroups.count))));
  }
}

// In the middle of rank 0's second group, of which nothing is kept; the others are not asked.
TEST_F(ClipMakers, AllRanksStopWithTheOneThatIsAskedBetweenTwoBatches) {
  World& world = World::join();
  const bool asked = world.is_root();
  const auto stopping = [&](int64_t first, int64_t count) {
    if (asked && first == 8) set_stop_deadline(1);
    return ramp(first, count);
  };
  ClipMaker maker(stopping,
                  {.what = "samples", .groups = kGroups, .batch = 4, .kept = kept("a key")});
  const std::string error = error_of(
      Code::kInterrupted, [&] { maker.for_own_groups(world, "test", [](const at::Tensor&) {}); });
  EXPECT_TRUE(contains(error, "test: asked to stop")) << error;
  if (asked) {
    EXPECT_EQ(maker.made(), 8);
  }
  set_stop_deadline(0);
  ClipMaker resumed = maker_of(4, kept("a key"));
  resumed.for_own_groups(world, "test", [](const at::Tensor&) {});
  EXPECT_EQ(world.sum(maker.made() + resumed.made()), kGroups.count);
}

// One rank makes them, all take them: whose group it is does not matter.
TEST_F(ClipMakers, GroupsOfOtherRanksAreTakenToo) {
  World& world = World::join();
  if (world.is_root()) {
    ClipMaker alone = maker_of(8, kept("a key"));
    for (int64_t group = 0; group < kGroups.number(); ++group) alone.group(group);
  }
  world.barrier();
  ClipMaker maker = maker_of(8, kept("a key"));
  maker.for_own_groups(world, "test", [](const at::Tensor&) {});
  EXPECT_EQ(maker.made(), 0);
}

TEST_F(ClipMakers, UnderAnotherKeyAllAreMadeAnew) {
  World& world = World::join();
  for (const char* key : {"kernels FUSED", "kernels REFERENCE"}) {
    ClipMaker maker = maker_of(8, kept(key));
    maker.for_own_groups(world, "test", [](const at::Tensor&) {});
    EXPECT_EQ(world.sum(maker.made()), kGroups.count) << key;
  }
}

TEST_F(ClipMakers, ClipsThatAreNotFiniteAreRefusedByNumber) {
  ClipMaker maker(
      [](int64_t first, int64_t count) {
        at::Tensor clips = ramp(first, count);
        if (first + count > 20) clips.fill_(std::numeric_limits<float>::quiet_NaN());
        return clips;
      },
      {.what = "samples", .groups = kGroups, .batch = 4});
  EXPECT_EQ(maker.group(1).size(0), 8);
  const std::string error = error_of(Code::kNotFinite, [&] { maker.group(2); });
  EXPECT_TRUE(contains(error, "samples 20 to 23")) << error;
}

}  // namespace
}  // namespace lf
