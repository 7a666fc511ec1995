#include "comm/watchdog.h"

#include <atomic>

#include "base/text.h"
#include "comm/mpi_backend.h"
#include "tests/error_of.h"

namespace lf {
namespace {

Beat beat_of(int rank, double stalled, int inside, uint64_t began, int64_t step = 10) {
  Beat beat;
  beat.rank = rank;
  beat.stalled_seconds = stalled;
  beat.activity.inside = inside;
  beat.activity.began = began;
  beat.activity.step = step;
  beat.activity.bytes = 4 << 20;
  std::string("train").copy(beat.activity.phase.data(), 31);
  std::string("all-reduce").copy(beat.activity.collective.data(), 31);
  return beat;
}

const std::vector<double> kHeard = {0, 0, 0};

TEST(Watchdog, NobodyIsBlamedBeforeTheTime) {
  EXPECT_EQ(judge({beat_of(0, 9, 1, 5), beat_of(1, 9, 0, 4), beat_of(2, 9, 1, 5)}, kHeard, 10), "");
}

TEST(Watchdog, TheRankThatOthersWaitForIsBlamed) {
  const std::string message =
      judge({beat_of(0, 11, 1, 5), beat_of(1, 11, 0, 4, 9), beat_of(2, 11, 1, 5)}, kHeard, 10);
  EXPECT_TRUE(contains(message, "rank 1 has made no progress for 11s")) << message;
  EXPECT_TRUE(contains(message,
                       "step 9, phase 'train', last collective #4, all-reduce of 4.0 MiB, "
                       "finished"))
      << message;
}

TEST(Watchdog, OfRanksThatAllWaitTheOneBehindIsBlamed) {
  const std::string message =
      judge({beat_of(0, 11, 1, 5), beat_of(1, 11, 1, 5), beat_of(2, 11, 1, 4)}, kHeard, 10);
  EXPECT_TRUE(contains(message, "rank 2 has made")) << message;
}

TEST(Watchdog, ARankThatContinuesAfterAStopIsGivenItsTime) {
  EXPECT_EQ(judge({beat_of(0, 0.25, 1, 5), beat_of(1, 11, 1, 5), beat_of(2, 11, 1, 5)}, kHeard, 10),
            "");
}

TEST(Watchdog, ALongPhaseOfOneRankExcusesThoseThatWaitForIt) {
  std::vector<Beat> beats = {beat_of(0, 50, 0, 5), beat_of(1, 50, 1, 6), beat_of(2, 50, 1, 6)};
  beats[0].activity.limit_seconds = 100;
  EXPECT_EQ(judge(beats, kHeard, 10), "");
  beats[0].stalled_seconds = 101;
  EXPECT_TRUE(contains(judge(beats, kHeard, 10), "rank 0 has made no progress for 1m41s"));
}

TEST(Watchdog, ASilentRankIsBlamedUnlessItHasLeft) {
  std::vector<Beat> beats = {beat_of(0, 11, 1, 5), beat_of(1, 0, 0, 4), beat_of(2, 11, 1, 5)};
  const std::string message = judge(beats, {0, 11, 0}, 10);
  EXPECT_TRUE(contains(message, "rank 1 has not been heard for 11s")) << message;
  EXPECT_TRUE(contains(message, "step 10, phase 'train'")) << message;
  for (Beat& beat : beats) beat.stalled_seconds = 1;
  beats[1].leaving = 1;
  EXPECT_EQ(judge(beats, {0, 11, 0}, 10), "");
}

TEST(Watchdog, RanksAreKeptWaitingByThoseOfTheirPartOnly) {
  // Ranks 0 and 1 train and wait for each other at #90; rank 2 evaluates, at its own #4.
  std::vector<Beat> beats = {beat_of(0, 11, 1, 90), beat_of(1, 11, 1, 89), beat_of(2, 1, 0, 4)};
  beats[2].activity.part = 1;
  EXPECT_TRUE(contains(judge(beats, kHeard, 10), "rank 1 has made no progress"));
  beats[0].stalled_seconds = beats[1].stalled_seconds = 1;
  EXPECT_EQ(judge(beats, kHeard, 10), "");
  beats[2].stalled_seconds = 11;
  EXPECT_TRUE(contains(judge(beats, kHeard, 10), "rank 2 has made no progress"));
  beats[2].activity.limit_seconds = 100;
  EXPECT_EQ(judge(beats, kHeard, 10), "");
  EXPECT_TRUE(contains(judge(beats, {0, 0, 11}, 10), "rank 2 has not been heard"));
}

TEST(Watchdog, TheSlowestRankIsKnownByItsOwnTime) {
  std::vector<Beat> beats = {beat_of(0, 0, 0, 1), beat_of(1, 0, 0, 1), beat_of(2, 0, 0, 1)};
  EXPECT_FALSE(find_straggler(beats).has_value());
  beats[0].step_seconds = 0.2;
  beats[1].step_seconds = 0.5;
  beats[2].step_seconds = 0.25;
  const auto slowest = find_straggler(beats);
  ASSERT_TRUE(slowest.has_value());
  EXPECT_EQ(slowest->rank, 1);
  EXPECT_DOUBLE_EQ(slowest->ratio, 2.0);
  beats[2].activity.part = 1;
  beats[2].step_seconds = 0;  // a rank that does not train has no steps
  ASSERT_TRUE(find_straggler(beats).has_value());
  EXPECT_DOUBLE_EQ(find_straggler(beats)->ratio, 2.5);
}

TEST(Watchdog, NamesARankThatHangsAndSparesALongPhase) {
  World& world = World::join();
  CommConfig config;
  config.set_timeout_seconds(1);
  std::mutex mutex;
  std::string seen;
  std::atomic<int> fired{0};
  Watchdog watchdog(world, config, [&](const std::string& message) {
    const std::lock_guard<std::mutex> lock(mutex);
    seen = message;
    ++fired;
  });
  EXPECT_EQ(watchdog.connected(), world.size() > 1);
  const int late = world.size() - 1;
  {
    const Watchdog::Phase phase("compile", 60);
    watchdog.begin_step(3);
    if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(1800));
    world.barrier();
  }
  EXPECT_EQ(fired, 0);
  {
    const Watchdog::Phase phase("train");
    watchdog.begin_step(4);
    if (world.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(2200));
    world.barrier();
  }
  EXPECT_EQ(fired, world.is_root() ? 1 : 0);
  if (world.is_root()) {
    const std::lock_guard<std::mutex> lock(mutex);
    EXPECT_TRUE(contains(seen, str("rank ", late, " has made no progress"))) << seen;
    EXPECT_TRUE(contains(seen, "step 4, phase 'train'")) << seen;
  }
}

TEST(Watchdog, MeasuresTheRanksWithoutTheirWaiting) {
  World& world = World::join();
  CommConfig config;
  config.set_timeout_seconds(30);
  Watchdog watchdog(world, config);
  MpiBackend backend(World::join(), std::chrono::milliseconds(30000));
  const int slow = world.size() - 1;
  for (int step = 0; step < 8; ++step) {
    watchdog.begin_step(step);
    std::this_thread::sleep_for(std::chrono::milliseconds(world.rank() == slow ? 90 : 20));
    backend.barrier()->wait();
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(600));  // for the next beats
  if (world.is_root()) {
    const auto slowest = watchdog.straggler();
    ASSERT_TRUE(slowest.has_value());
    EXPECT_EQ(slowest->rank, slow);
    EXPECT_GT(slowest->ratio, world.size() > 1 ? 1.5 : 0.0);
  } else {
    EXPECT_FALSE(watchdog.straggler().has_value());
  }
  world.barrier();
}

}  // namespace
}  // namespace lf
