// Locks, lives and restart counts when the start of a run is cut off at any operation of the file
// system.
#include <optional>

#include "tests/base/cut_off.h"
#include "tests/checkpoint/checkpoint_fixture.h"
#include "tests/checkpoint/lock_holder.h"

namespace lf {
namespace {

FileSystem& disk() { return real_file_system(); }

// A start of `job`: takes the lock, claims a life and records where it resumes.
struct Start {
  std::string run;
  JobIdentity job;
  int64_t resumes_from = 100;
  std::optional<Life> life = std::nullopt;  // set once claimed
  bool recorded = false;

  void operator()(FileSystem& files) {
    const RunLock lock(files, run, job);
    life = Life::claim(files, run, job);
    life->resumed_from(files, resumes_from);
    recorded = true;
  }
};

// Another start after a cut: it gets the lock and a life of its own, and fences the earlier one.
void expect_next_start(const Start& cut, const JobIdentity& job) {
  const RunLock lock(disk(), cut.run, job);
  error_of(Code::kUsage, [&] { RunLock(disk(), cut.run, {"slurm-8", 0}); });
  const std::vector<LifeRecord> before = read_lives(disk(), cut.run);
  if (cut.life) {
    ASSERT_FALSE(before.empty());
    EXPECT_EQ(before.back().life(), cut.life->number()) << "what was claimed is durable";
    EXPECT_EQ(before.back().job(), cut.job.job);
    EXPECT_EQ(before.back().restarts(), cut.job.restarts);
  }
  if (cut.recorded) {
    EXPECT_EQ(before.back().resumed_from_images(), cut.resumes_from);
  }
  Life next = Life::claim(disk(), cut.run, job);
  for (const LifeRecord& other : before) EXPECT_LT(other.life(), next.number());
  next.resumed_from(disk(), 50);
  next.check(disk());
  if (cut.life) error_of(Code::kUsage, [&] { cut.life->check(disk()); });
  EXPECT_EQ(read_lives(disk(), cut.run).back().resumed_from_images(), 50);
}

class StartCutOff : public ::testing::TestWithParam<Cut> {};

TEST_P(StartCutOff, AnotherStartFollows) {
  for (const std::string job : {"", "slurm-7"}) {
    const auto start = [&](uint64_t number, Start& start) {
      start.run = fresh_folder();
      start.job = {job, 0};
      return cut_off(GetParam(), number, start);
    };
    Start whole;
    const uint64_t operations = start(kNever, whole).operations;
    ASSERT_GT(operations, 15U);
    for (uint64_t number = 0; number <= operations; ++number) {
      SCOPED_TRACE(str("operation ", number, " of job '", job, "'"));
      Start cut;
      start(number, cut);
      expect_next_start(cut, {job, 1});
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(StartCutOff, ALaterRestartTakesOverFromALiveEarlierOne) {
  const auto restart = [&](uint64_t number, Start& start) {
    start.run = fresh_folder();
    start.job = {"slurm-7", 1};
    const LockHolder earlier(start.run, {"slurm-7", 0});
    Life::claim(disk(), start.run, {"slurm-7", 0});
    const CutOff result = cut_off(GetParam(), number, start);
    if (!HasFatalFailure()) expect_next_start(start, {"slurm-7", 2});
    return result;
  };
  Start whole;
  const uint64_t operations = restart(kNever, whole).operations;
  for (uint64_t number = 0; number < operations; ++number) {
    SCOPED_TRACE(number);
    Start cut;
    restart(number, cut);
    if (HasFatalFailure()) return;
  }
}

// Whatever a newer start's claim left, the older life either is still the newest or publishes
// nothing, and every start of an older restart is refused once a newer one has claimed.
TEST_P(StartCutOff, TheOlderLifeIsFencedOnceANewerOneHasClaimed) {
  const uint64_t operations =
      cut_off(GetParam(), kNever, [run = fresh_folder()](FileSystem& files) {
        Life::claim(files, run, {});
      }).operations;
  ASSERT_GE(operations, 6U);
  for (uint64_t number = 0; number <= operations; ++number) {
    SCOPED_TRACE(number);
    const std::string run = fresh_folder();
    const Life older = Life::claim(disk(), run, {"slurm-7", 0});
    save(disk(), run, 100, older);
    std::optional<Life> newer;
    const CutOff claim = cut_off(GetParam(), number, [&](FileSystem& files) {
      newer = Life::claim(files, run, {"slurm-7", 1});
    });
    EXPECT_EQ(claim.finished, number == operations);
    if (claim.finished) {
      error_of(Code::kUsage, [&] { save(disk(), run, 200, older); });
      error_of(Code::kUsage, [&] { Life::claim(disk(), run, {"slurm-7", 0}); });
    } else {
      try {
        save(disk(), run, 200, older);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::kUsage) << error.what();
        EXPECT_EQ(choose_checkpoint(disk(), run)->images, 100);
      }
    }
    Life next = Life::claim(disk(), run, {"slurm-7", 2});
    next.resumed_from(disk(), choose_checkpoint(disk(), run)->images);
    error_of(Code::kUsage, [&] { save(disk(), run, 300, older); });
    expect_state(save(disk(), run, 300, next), 300);
    EXPECT_EQ(choose_checkpoint(disk(), run)->images, 300);
  }
}

INSTANTIATE_TEST_SUITE_P(, StartCutOff, kEveryCut, name_of_cut);

TEST(FaultyStart, TheSameProcessRetriesAfterAnyError) {
  Start whole{fresh_folder(), {"slurm-7", 0}};
  const uint64_t operations = cut_off(Cut::kKill, kNever, whole).operations;
  for (uint64_t number = 0; number < operations; ++number) {
    SCOPED_TRACE(number);
    Start start{fresh_folder(), {"slurm-7", 0}};
    cut_off(Cut::kError, number, start);
    start(disk());
    start.life->check(disk());
    EXPECT_EQ(read_lives(disk(), start.run).back().life(), start.life->number());
    EXPECT_EQ(read_file(disk(), start.run + "/lock", 1000), "");
  }
}

// An error while the lock is given back must not keep the run from the next start.
TEST(FaultyStart, ALockThatCannotBeEmptiedIsFreeAllTheSame) {
  const std::string run = fresh_folder();
  bool broken = false;
  FaultyFileSystem files([&](const FileOperation&) {
    if (broken) throw Error(Code::kStorage, "input/output error");
    return true;
  });
  {
    const RunLock lock(files, run, {});
    broken = true;
  }
  EXPECT_NE(read_file(disk(), run + "/lock", 1000), "");
  const RunLock next(disk(), run, {});
}

}  // namespace
}  // namespace lf
