// A save cut off at every single operation of the file system: by an error of the device, by the
// death of the process, and by a power cut that drops what was not synced.
#include <ATen/ops/empty_like.h>

#include <set>

#include "tests/base/cut_off.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

FileSystem& disk() { return real_file_system(); }

// A run with a checkpoint at 100 and then, cut off at operation `number`, one at `images`.
struct Attempt {
  std::string run = fresh_folder();
  Life life = Life::claim(disk(), run, {});
  CutOff result;

  Attempt(Cut cut, uint64_t number, int64_t images, bool prune) {
    save(disk(), run, 100, life);
    result = cut_off(cut, number, [&](FileSystem& files) {
      save(files, run, images, life, 2);
      CheckpointConfig config;
      config.set_keep_last(1);
      if (prune) prune_checkpoints(files, run, config, life);
    });
  }
};

// After the cut the old or the new checkpoint is there, whole, and the next life cleans up, saves
// and prunes as usual.
void expect_recovery(const Attempt& attempt, int64_t images) {
  const std::optional<Candidate> chosen = choose_checkpoint(disk(), attempt.run);
  ASSERT_TRUE(chosen.has_value());
  EXPECT_TRUE(chosen->images == 100 || chosen->images == images) << chosen->images;
  if (attempt.result.finished) {
    EXPECT_EQ(chosen->images, images);
  }
  expect_state(chosen->folder, chosen->images);

  Life next = Life::claim(disk(), attempt.run, {});
  next.resumed_from(disk(), chosen->images);
  remove_leftovers(disk(), attempt.run, next.number());
  const std::optional<Candidate> still = choose_checkpoint(disk(), attempt.run);
  ASSERT_TRUE(still.has_value());
  EXPECT_EQ(still->images, chosen->images);
  expect_state(save(disk(), attempt.run, 300, next), 300);
  CheckpointConfig config;
  config.set_keep_last(1);
  prune_checkpoints(disk(), attempt.run, config, next);
  EXPECT_EQ(disk().list(checkpoints_folder(attempt.run)),
            std::vector<std::string>{"img-000000000300"});
}

class SaveCutOff : public ::testing::TestWithParam<Cut> {};

TEST_P(SaveCutOff, EveryPrefixRecovers) {
  const uint64_t operations = Attempt(Cut::kKill, kNever, 200, true).result.operations;
  ASSERT_GT(operations, 50U);
  for (uint64_t number = 0; number <= operations; ++number) {
    SCOPED_TRACE(number);
    const Attempt attempt(GetParam(), number, 200, true);
    EXPECT_EQ(attempt.result.finished, number == operations);
    expect_recovery(attempt, 200);
    if (HasFatalFailure()) return;
  }
}

TEST_P(SaveCutOff, EveryPrefixOfASaveOverOneOfTheSamePositionRecovers) {
  const uint64_t operations = Attempt(Cut::kKill, kNever, 100, false).result.operations;
  for (uint64_t number = 0; number <= operations; ++number) {
    SCOPED_TRACE(number);
    expect_recovery(Attempt(GetParam(), number, 100, false), 100);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(, SaveCutOff, kEveryCut, name_of_cut);

TEST(FaultySave, TheSameProcessRetriesAfterAnyError) {
  const uint64_t operations = Attempt(Cut::kKill, kNever, 200, true).result.operations;
  for (uint64_t number = 0; number < operations; ++number) {
    SCOPED_TRACE(number);
    const Attempt attempt(Cut::kError, number, 200, true);
    expect_state(save(disk(), attempt.run, 200, attempt.life), 200);
    expect_state(save(disk(), attempt.run, 250, attempt.life), 250);
  }
}

TEST(FaultySave, TheManifestIsWrittenLastAndEverythingIsSyncedBeforeTheRename) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  std::vector<FileOperation> log;
  FaultyFileSystem files([&](const FileOperation& operation) {
    log.push_back(operation);
    return true;
  });
  save(files, run, 100, life, 3);
  std::set<std::string> unsynced;
  bool manifest = false, renamed = false;
  for (const FileOperation& operation : log) {
    const bool hidden = operation.path.find("/.tmp-img") != std::string::npos;
    if (operation.kind == "create" && hidden) {
      EXPECT_FALSE(manifest) << operation.path << " after the manifest";
      unsynced.insert(operation.path);
      manifest = operation.path.ends_with("/manifest.pbtxt");
    }
    if (operation.kind == "sync") unsynced.erase(operation.path);
    if (operation.kind == "rename" && operation.path.ends_with("img-000000000100")) {
      EXPECT_TRUE(unsynced.empty());
      EXPECT_TRUE(manifest);
      renamed = true;
    }
    if (operation.path.find("/latest") != std::string::npos) {
      EXPECT_TRUE(renamed);
    }
  }
  EXPECT_TRUE(renamed);
}

}  // namespace
}  // namespace lf
