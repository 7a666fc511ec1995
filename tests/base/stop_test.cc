// What a process takes as a reason to stop. State is the process's own, so what cannot be taken
// back happens in a process that exits.
#include "base/stop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/stop_signals.h"
#include "base/text.h"
#include "tests/error_of.h"

namespace lf {
namespace {

class Stop : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (const char* name : {"LASTFRAME_DEADLINE", "SLURM_JOB_END_TIME"}) ::unsetenv(name);
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    set_stop_deadline(0);
    set_stop_file("");
  }
  void make_stop_file() const { std::ofstream(folder_ + "/STOP") << "x"; }

  const std::string folder_ = str(::testing::TempDir(), "/lastframe-stop-", ::getpid());
};

TEST_F(Stop, NothingAsksAtFirst) {
  EXPECT_EQ(stop_requested(), StopReason::kNone);
  EXPECT_EQ(last_stop_signal(), 0);
}

TEST_F(Stop, TheDeadlineIsReachedWhenItsSecondHasCome) {
  set_stop_deadline(unix_now() + 1000);
  EXPECT_EQ(stop_requested(), StopReason::kNone);
  set_stop_deadline(unix_now() + 0.05);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_EQ(stop_requested(), StopReason::kDeadline);
  set_stop_deadline(1);  // 1970
  EXPECT_EQ(stop_requested(), StopReason::kDeadline);
  set_stop_deadline(0);
  EXPECT_EQ(stop_requested(), StopReason::kNone) << "0 is never";
}

TEST_F(Stop, TheEndOfTheAllocationComesFromTheEnvironment) {
  EXPECT_EQ(scheduler_deadline(), 0);
  ::setenv("SLURM_JOB_END_TIME", "2000000000", 1);
  EXPECT_EQ(scheduler_deadline(), 2e9);
  ::setenv("LASTFRAME_DEADLINE", "1900000000", 1);
  EXPECT_EQ(scheduler_deadline(), 1.9e9) << "the job script's word counts more";
  for (const char* nonsense : {"", "soon", "-5", "0"}) {
    ::setenv("LASTFRAME_DEADLINE", nonsense, 1);
    EXPECT_EQ(scheduler_deadline(), 2e9) << nonsense;
  }
}

TEST_F(Stop, ARunStopsTheMarginBeforeItsAllocationEnds) {
  watch_for_stop(folder_, 120);
  EXPECT_EQ(stop_requested(), StopReason::kNone) << "no time limit";
  ::setenv("LASTFRAME_DEADLINE", std::to_string(unix_now() + 100).c_str(), 1);
  watch_for_stop(folder_, 10);
  EXPECT_EQ(stop_requested(), StopReason::kNone);
  watch_for_stop(folder_, 120);
  EXPECT_EQ(stop_requested(), StopReason::kDeadline);
  ::setenv("LASTFRAME_DEADLINE", "60", 1);  // less than the margin: still a deadline, not none
  watch_for_stop(folder_, 120);
  EXPECT_EQ(stop_requested(), StopReason::kDeadline);
}

TEST_F(Stop, AStopFileIsSeenAndLookedForOnceASecond) {
  watch_for_stop(folder_, 0);
  EXPECT_EQ(stop_requested(), StopReason::kNone);
  make_stop_file();
  EXPECT_EQ(stop_requested(), StopReason::kNone) << "it has just looked";
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  EXPECT_EQ(stop_requested(), StopReason::kStopFile);
  std::filesystem::remove(folder_ + "/STOP");
  EXPECT_EQ(stop_requested(), StopReason::kStopFile) << "once seen, it counts";
}

TEST_F(Stop, TheStrongestReasonIsGiven) {
  make_stop_file();
  set_stop_file(folder_ + "/STOP");
  EXPECT_EQ(stop_requested(), StopReason::kStopFile);
  set_stop_deadline(1);
  EXPECT_EQ(stop_requested(), StopReason::kDeadline);
  EXPECT_EXIT(
      {
        request_stop();
        std::exit(static_cast<int>(stop_requested()));
      },
      ::testing::ExitedWithCode(static_cast<int>(StopReason::kSignal)), "");
}

TEST_F(Stop, WorkIsInterruptedWhereSomebodyTakesItUpAgain) {
  interruption_point();
  set_stop_deadline(1);
  interruption_point();  // nobody would
  {
    const Interruptible work;
    error_of(Code::kInterrupted, interruption_point);
    set_stop_deadline(0);
    interruption_point();
    const Interruptible inner([] { return true; });
    error_of(Code::kInterrupted, interruption_point);
    std::thread(interruption_point).join();  // only the thread that made it is asked
  }
  set_stop_deadline(1);
  interruption_point();
}

TEST_F(Stop, ASignalIsNotedAndASecondTerminationExits) {
  EXPECT_EXIT(
      {
        catch_stop_signals();
        ::raise(SIGUSR1);
        ::raise(SIGUSR1);
        const bool noted = last_stop_signal() == SIGUSR1 && stop_requested() == StopReason::kSignal;
        std::exit(noted ? 42 : 1);
      },
      ::testing::ExitedWithCode(42), "");
  EXPECT_EXIT(
      {
        catch_stop_signals();
        ::raise(SIGINT);
        ::raise(SIGTERM);
        std::exit(0);
      },
      ::testing::ExitedWithCode(75), "");
}

}  // namespace
}  // namespace lf
