// What the ranks are told after a step: when to save, validate, evaluate, show and stop.
#include "train/coordinator.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "base/clock.h"
#include "tests/error_of.h"

namespace lf {
namespace {

constexpr int64_t kBatch = 8;

class Decisions : public testing::Test {
 protected:
  Decisions() : folder_(str(testing::TempDir(), "/lf-coordinator-", ::getpid())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    config_.mutable_train()->set_images(800);
    config_.mutable_train()->set_batch(kBatch);
    config_.mutable_train()->set_log_images(1 << 20);
    config_.mutable_train()->set_validation_images(0);
    config_.mutable_train()->set_preview_images(0);
    config_.mutable_checkpoint()->set_every_images(0);
    config_.mutable_checkpoint()->set_every_minutes(0);
  }
  ~Decisions() override {
    set_stop_file("");
    set_stop_deadline(0);
    std::filesystem::remove_all(folder_);
  }

  // After the config is complete; until then there is none.
  Coordinator& coordinator(int64_t end = 800) {
    if (!coordinator_) coordinator_.emplace(World::join(), config_, folder_, 0, end);
    return *coordinator_;
  }
  // The step that ends at `images`.
  Verdict after(int64_t images, int64_t skipped = 0) {
    StepTally tally;
    tally.loss.steps = 1;
    tally.skipped = skipped;
    return coordinator().after_step(images - kBatch, images, tally, nullptr, [] {});
  }

  const std::string folder_;
  Config config_;
  std::optional<Coordinator> coordinator_;
};

TEST_F(Decisions, MostStepsAskForNothing) {
  for (const int64_t images : {8, 16, 400, 792}) {
    const Verdict verdict = after(images);
    EXPECT_FALSE(verdict.save || verdict.validate || verdict.preview || verdict.evaluate ||
                 verdict.stop)
        << images;
  }
}

// Intervals need not be multiples of the batch: the step that passes one is it.
TEST_F(Decisions, EachIsDueInTheStepThatPassesItsInterval) {
  config_.mutable_checkpoint()->set_every_images(100);
  config_.mutable_train()->set_validation_images(30);
  config_.mutable_train()->set_preview_images(64);
  const Verdict at_32 = after(32), at_64 = after(64), at_96 = after(96), at_104 = after(104);
  EXPECT_TRUE(at_32.validate && !at_32.save && !at_32.preview);
  EXPECT_TRUE(at_64.validate && at_64.preview && !at_64.save);
  EXPECT_TRUE(at_96.validate && !at_96.preview && !at_96.save);
  EXPECT_TRUE(at_104.save && !at_104.validate && !at_104.preview);
}

TEST_F(Decisions, AnEvaluationIsSavedWithItsCheckpoint) {
  config_.mutable_evaluation()->set_every_images(200);
  EXPECT_FALSE(after(192).evaluate);
  const Verdict verdict = after(200);
  EXPECT_TRUE(verdict.evaluate && verdict.save && !verdict.stop);
}

TEST_F(Decisions, TheLastStepOfTheRunEvaluatesShowsAndStops) {
  config_.mutable_evaluation()->set_every_images(300);
  config_.mutable_train()->set_preview_images(300);
  const Verdict verdict = after(800);
  EXPECT_TRUE(verdict.evaluate && verdict.preview && verdict.save && verdict.stop);
  EXPECT_EQ(coordinator().end(800, "", StopReason::kNone), 0);
}

TEST_F(Decisions, TheEndOfASliceStopsAndDoesNotEvaluate) {
  config_.mutable_evaluation()->set_every_images(300);
  coordinator(400);
  const Verdict verdict = after(400);
  EXPECT_TRUE(verdict.stop && !verdict.evaluate);
  EXPECT_EQ(coordinator().end(400, "", StopReason::kNone), 0);
}

TEST_F(Decisions, TheClockAsksForACheckpointOnceAnInterval) {
  config_.mutable_checkpoint()->set_every_minutes(1e-9);
  EXPECT_TRUE(after(8).save);
  config_.mutable_checkpoint()->set_every_minutes(60);
  EXPECT_FALSE(after(16).save);
}

TEST_F(Decisions, ALossFarAboveTheFirstForLongIsTold) {
  config_.mutable_train()->set_log_images(8);
  const auto status = [&] {
    return read_file(real_file_system(), folder_ + "/status.json", 1 << 16);
  };
  const auto step = [&](int64_t images, double loss) {
    StepTally tally;
    tally.loss.add({1, loss, {}});
    if (std::isnan(loss)) tally = {}, tally.skipped = 1;
    coordinator().after_step(images - 8, images, tally, nullptr, [] {});
  };
  step(8, 2);
  for (int i = 2; i <= 5; ++i) step(8 * i, i == 3 ? NAN : 7);
  coordinator().killed(40, "");
  EXPECT_NE(status().find("\"diverged\":\"\""), std::string::npos) << "four are no five";
  step(48, 7);
  coordinator().killed(48, "");
  EXPECT_NE(status().find("since image 48: the last finite loss is 7, the first was 2"),
            std::string::npos)
      << status();
  for (int i = 7; i <= 11; ++i) step(8 * i, 5.9);
  coordinator().killed(88, "");
  EXPECT_NE(status().find("\"diverged\":\"\""), std::string::npos) << "it has recovered";
  // A start later knows the first loss by what the run has logged.
  coordinator_.reset();
  EXPECT_EQ(first_loss(folder_), 2);
}

TEST_F(Decisions, AStopFileStopsWithoutARestart) {
  coordinator();
  std::ofstream(folder_ + "/STOP") << "";
  EXPECT_TRUE(after(8).stop);
  EXPECT_EQ(coordinator().end(8, "", StopReason::kNone), 0);
}

TEST_F(Decisions, ADeadlineStopsTheRunAndAsksForARestart) {
  coordinator();
  set_stop_deadline(unix_now() + 3600);
  EXPECT_FALSE(after(8).stop);
  set_stop_deadline(unix_now() - 1);
  EXPECT_TRUE(after(16).stop);
  EXPECT_EQ(coordinator().end(16, "", StopReason::kNone), static_cast<int>(Code::kInterrupted));
}

// The margin leaves time for the last checkpoint.
TEST_F(Decisions, TheDeadlineIsTheEndOfTheAllocationLessTheMargin) {
  config_.mutable_train()->set_deadline_margin_seconds(120);
  ::setenv("LASTFRAME_DEADLINE", str(static_cast<int64_t>(unix_now()) + 600).c_str(), 1);
  coordinator();
  EXPECT_FALSE(after(8).stop);
  coordinator_.reset();
  ::setenv("LASTFRAME_DEADLINE", str(static_cast<int64_t>(unix_now()) + 60).c_str(), 1);
  coordinator();
  ::unsetenv("LASTFRAME_DEADLINE");
  EXPECT_TRUE(after(16).stop);
}

TEST_F(Decisions, ARunThatIsDoneAsksForNoRestartWhateverTheDeadline) {
  coordinator();
  set_stop_deadline(1);
  EXPECT_TRUE(after(800).stop);
  EXPECT_EQ(coordinator().end(800, "", StopReason::kNone), 0);
}

TEST_F(Decisions, MoreSkippedStepsInARowThanPatienceEndTheRun) {
  config_.mutable_train()->set_patience(2);
  after(8, 1);
  after(16, 1);
  after(24, 0);
  after(32, 1);
  after(40, 1);
  error_of(Code::kNotFinite, [&] { after(48, 1); });
  EXPECT_EQ(coordinator().total_skipped(), 5);
}

}  // namespace
}  // namespace lf
