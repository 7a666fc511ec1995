// Two jobs on one run, lives and their fencing, retention, leftovers.
#include "checkpoint/run_claim.h"

#include <ATen/ops/empty_like.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/faulty_file.h"
#include "tests/checkpoint/checkpoint_fixture.h"
#include "tests/checkpoint/lock_holder.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

FileSystem& disk() { return real_file_system(); }

std::vector<std::string> checkpoints(const std::string& run) {
  return disk().list(checkpoints_folder(run));
}

NamedNumber named(const std::string& name, double value) {
  NamedNumber number;
  number.set_name(name);
  number.set_value(value);
  return number;
}

TEST(RunLock, ASecondJobIsRefusedAndTheHolderNamed) {
  const std::string run = fresh_folder();
  const LockHolder holder(run, {"slurm-7", 0});
  const std::string message = error_of(Code::kUsage, [&] { RunLock(disk(), run, {"slurm-8", 0}); });
  expect_contains(message, str("process ", holder.pid(), " on "));
  expect_contains(message, "of job slurm-7, started 2");
  expect_contains(message, "/lock)");
  error_of(Code::kUsage, [&] { RunLock(disk(), run, {}); });
}

TEST(RunLock, IsFreeAfterRelease) {
  const std::string run = fresh_folder();
  { const RunLock lock(disk(), run, {}); }
  EXPECT_EQ(read_file(disk(), run + "/lock", 1000), "");
  const RunLock again(disk(), run, {});
}

TEST(RunLock, IsFreeAfterTheHolderWasKilled) {
  const std::string run = fresh_folder();
  { const LockHolder holder(run, {}); }
  EXPECT_NE(read_file(disk(), run + "/lock", 1000), "");
  const RunLock lock(disk(), run, {});
}

TEST(RunLock, ALaterRestartOfTheSameJobTakesOverAndKeepsTheLock) {
  const std::string run = fresh_folder();
  {
    const LockHolder earlier(run, {"slurm-7", 0});
    const LockHolder later(run, {"slurm-7", 1});
    error_of(Code::kUsage, [&] { RunLock(disk(), run, {"slurm-8", 0}); });
    error_of(Code::kUsage, [&] { RunLock(disk(), run, {"slurm-7", 0}); });
    error_of(Code::kUsage, [&] { RunLock(disk(), run, {"slurm-7", 1}); });
  }
  const RunLock lock(disk(), run, {"slurm-8", 0});
}

TEST(RunLock, JobsAreNamedByTheEnvironment) {
  ::setenv("SLURM_JOB_ID", "42", 1);
  ::unsetenv("SLURM_RESTART_COUNT");
  EXPECT_EQ(job_from_environment().job, "slurm-42");
  EXPECT_EQ(job_from_environment().restarts, 0);
  ::setenv("SLURM_RESTART_COUNT", "3", 1);
  EXPECT_EQ(job_from_environment().restarts, 3);
  ::unsetenv("SLURM_JOB_ID");
  EXPECT_EQ(job_from_environment().job, "");
  ::unsetenv("SLURM_RESTART_COUNT");
}

TEST(Life, NumbersAreNeverSharedHoweverManyStartAtOnce) {
  const std::string run = fresh_folder();
  std::vector<int64_t> numbers(16);
  std::vector<std::thread> threads;
  for (int64_t& number : numbers) {
    threads.emplace_back([&] { number = Life::claim(disk(), run, {}).number(); });
  }
  for (std::thread& thread : threads) thread.join();
  std::sort(numbers.begin(), numbers.end());
  for (size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], static_cast<int64_t>(i) + 1);
}

TEST(Life, AnOlderLifeOfTheJobPublishesNothingOverOrBesideANewerOne) {
  const std::string run = fresh_folder();
  const Life older = Life::claim(disk(), run, {"slurm-7", 0});
  save(disk(), run, 100, older);
  const std::string hidden = begin_checkpoint(disk(), run, 200, older);
  Life newer = Life::claim(disk(), run, {"slurm-7", 1});
  newer.resumed_from(disk(), 100);
  for (const int64_t images : {100, 200}) {
    const std::string message = error_of(Code::kUsage, [&] { save(disk(), run, images, older); });
    expect_contains(message, "a newer start has taken the run over (life 2");
  }
  CheckpointManifest manifest;
  manifest.set_images(200);
  error_of(Code::kUsage, [&] { commit_checkpoint(disk(), run, hidden, manifest, older); });
  error_of(Code::kUsage, [&] { prune_checkpoints(disk(), run, CheckpointConfig(), older); });
  error_of(Code::kUsage, [&] { Life::claim(disk(), run, {"slurm-7", 0}); });
  EXPECT_EQ(choose_checkpoint(disk(), run)->images, 100);
  expect_state(save(disk(), run, 200, newer), 200);
}

// The newer life begins between the older one's last check and its rename.
TEST(Life, WhatSlipsThroughTheLastWindowIsNotOfTheHistory) {
  for (const bool newer_published : {false, true}) {
    const std::string run = fresh_folder();
    const Life older = Life::claim(disk(), run, {});
    save(disk(), run, 100, older);
    std::optional<Life> newer;
    FaultyFileSystem files([&](const FileOperation& operation) {
      if (operation.kind == "rename" && operation.path.ends_with("img-000000000200")) {
        newer = Life::claim(disk(), run, {});
        newer->resumed_from(disk(), choose_checkpoint(disk(), run)->images);
        if (newer_published) save(disk(), run, 200, *newer);
      }
      return true;
    });
    if (newer_published) {
      error_of(Code::kStorage, [&] { save(files, run, 200, older); });
      expect_state(run + "/checkpoints/img-000000000200", 200);
      EXPECT_EQ(choose_checkpoint(disk(), run)->manifest.life(), 2);
    } else {
      error_of(Code::kUsage, [&] { save(files, run, 200, older); });
      EXPECT_EQ(read_file(disk(), run + "/latest", 100), "checkpoints/img-000000000100\n");
      EXPECT_EQ(list_checkpoints(disk(), run, Depth::kQuick).at(0).standing, Standing::kStray);
      EXPECT_EQ(choose_checkpoint(disk(), run)->images, 100);
      // The newer life's own checkpoint of that position replaces the stray.
      expect_state(save(disk(), run, 200, *newer), 200);
      EXPECT_EQ(choose_checkpoint(disk(), run)->images, 200);
    }
  }
}

// A process is stopped when its checkpoint is published but not yet `latest`, and continues when a
// newer life, which resumed from there, has published the next.
TEST(Life, OneStoppedWhilePublishingDoesNotTurnLatestBack) {
  const std::string run = fresh_folder();
  const Life older = Life::claim(disk(), run, {});
  save(disk(), run, 100, older);
  bool renamed = false;
  std::optional<Life> newer;
  FaultyFileSystem files([&](const FileOperation& operation) {
    if (renamed && !newer && operation.kind == "sync_folder") {
      newer = Life::claim(disk(), run, {});
      newer->resumed_from(disk(), choose_checkpoint(disk(), run)->images);
      save(disk(), run, 300, *newer);
    }
    renamed |= operation.kind == "rename" && operation.path.ends_with("img-000000000200");
    return true;
  });
  error_of(Code::kUsage, [&] { save(files, run, 200, older); });
  EXPECT_EQ(read_file(disk(), run + "/latest", 100), "checkpoints/img-000000000300\n");
  EXPECT_EQ(choose_checkpoint(disk(), run)->images, 300);
}

// What a newer life removed must not look like a damaged disk.
TEST(Life, WhatFailsOnceANewerLifeHasBegunFailsForThat) {
  const std::string run = fresh_folder();
  const Life older = Life::claim(disk(), run, {});
  const auto damaged = [] { fail(Code::kCheckpoint, "a file is gone"); };
  error_of(Code::kCheckpoint, [&] { older.while_newest(disk(), damaged); });
  const Life newer = Life::claim(disk(), run, {});
  error_of(Code::kUsage, [&] { older.while_newest(disk(), damaged); });
  older.while_newest(disk(), [] {});  // what succeeds is as it is
}

TEST(Life, StraysAloneMeanARunFromScratch) {
  const std::string run = fresh_folder();
  const Life older = Life::claim(disk(), run, {});
  save(disk(), run, 100, older);
  Life newer = Life::claim(disk(), run, {});
  newer.resumed_from(disk(), 0);
  EXPECT_FALSE(choose_checkpoint(disk(), run).has_value());
}

TEST(Life, ATornRecordKeepsItsNumber) {
  const std::string run = fresh_folder();
  fs::create_directories(run + "/lives");
  std::ofstream(run + "/lives/000005") << "life: 5 hos";
  EXPECT_EQ(Life::claim(disk(), run, {}).number(), 6);
}

TEST(Retention, KeepsTheLastThoseOfTheGridAndTheBest) {
  CheckpointConfig config;
  config.set_keep_last(2);
  config.set_keep_every_images(1000);
  config.set_keep_best(1);
  config.set_best_metric("fid");
  std::vector<Candidate> candidates;
  std::vector<std::vector<NamedNumber>> metrics;
  for (int64_t images = 3300; images > 0; images -= 300) {
    Candidate candidate;
    candidate.images = images;
    candidate.folder = std::to_string(images);
    candidate.standing = Standing::kWhole;
    set_number(candidate.manifest, "fid", images == 600 ? 2.0 : 10.0);
    candidates.push_back(candidate);
    metrics.emplace_back();
  }
  using Names = std::vector<std::string>;
  EXPECT_EQ(prunable(config, candidates, metrics),
            (Names{"2700", "2400", "1800", "1500", "900", "300"}));
  metrics[8] = {named("fid", 1.0)};  // 900, evaluated later
  EXPECT_EQ(prunable(config, candidates, metrics),
            (Names{"2700", "2400", "1800", "1500", "600", "300"}));
  candidates[6].manifest.add_awaits("fid");  // 1500, whose evaluation is still to come
  candidates[6].manifest.add_awaits("fvd");
  metrics[6] = {named("fid", 9.0)};
  EXPECT_EQ(prunable(config, candidates, metrics), (Names{"2700", "2400", "1800", "600", "300"}));
  metrics[6].push_back(named("fvd", 9.0));
  EXPECT_EQ(prunable(config, candidates, metrics),
            (Names{"2700", "2400", "1800", "1500", "600", "300"}));
  config.set_best_is_highest(true);
  config.set_keep_every_images(0);
  config.set_keep_last(1);
  EXPECT_EQ(prunable(config, candidates, metrics).size(), 10U) << "of equals the newest is best";
  candidates[0].standing = Standing::kDamaged;
  candidates[1].standing = Standing::kStray;
  for (const std::string& name : prunable(config, candidates, metrics)) {
    EXPECT_LT(std::stoll(name), 2700) << "nothing at or after the newest whole one goes";
  }
  for (Candidate& candidate : candidates) candidate.standing = Standing::kDamaged;
  EXPECT_TRUE(prunable(config, candidates, metrics).empty());
}

// A run saves every minute and prunes after each save, as Saver does.
TEST(Retention, OfManyCheapSavesOlderOnesStay) {
  CheckpointConfig config;  // every_minutes: 15 keep_last: 3
  std::vector<Candidate> candidates;
  for (int64_t minute = 1; minute <= 100; ++minute) {
    Candidate candidate;
    candidate.images = minute;
    candidate.folder = std::to_string(minute);
    candidate.standing = Standing::kWhole;
    candidate.manifest.set_saved_unix_seconds(60.0 * static_cast<double>(minute));
    candidates.insert(candidates.begin(), candidate);
    const auto gone =
        prunable(config, candidates, std::vector<std::vector<NamedNumber>>(candidates.size()));
    std::erase_if(candidates, [&](const Candidate& one) {
      return std::find(gone.begin(), gone.end(), one.folder) != gone.end();
    });
  }
  std::vector<int64_t> kept;
  for (const Candidate& candidate : candidates) kept.push_back(candidate.images);
  EXPECT_EQ(kept, (std::vector<int64_t>{100, 99, 98, 90, 75}));
}

TEST(Retention, PrunesNothingWhileTheNewestIsDamaged) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  save(disk(), run, 100, life);
  save(disk(), run, 200, life);
  const std::string newest = save(disk(), run, 300, life);
  std::fstream file(newest + "/ema.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('\x55');
  file.close();
  CheckpointConfig config;
  config.set_keep_last(1);
  error_of(Code::kCheckpoint, [&] { prune_checkpoints(disk(), run, config, life); });
  EXPECT_EQ(checkpoints(run).size(), 3U);
  config.set_read_back(false);  // sizes and headers are right
  EXPECT_EQ(prune_checkpoints(disk(), run, config, life).size(), 2U);
  EXPECT_EQ(checkpoints(run), std::vector<std::string>{"img-000000000300"});
}

TEST(Retention, MetricsFoundLaterDecideWhichIsBest) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  for (const int64_t images : {100, 200, 300}) {
    add_metrics(disk(), save(disk(), run, images, life),
                {named("fid", static_cast<double>(images))});
  }
  add_metrics(disk(), run + "/checkpoints/img-000000000200", {named("fid", 1)});
  add_metrics(disk(), run + "/checkpoints/img-000000000200", {named("fvd", 2)});
  EXPECT_EQ(read_metrics(disk(), run + "/checkpoints/img-000000000200").size(), 2U);
  CheckpointConfig config;
  config.set_keep_last(1);
  config.set_keep_best(1);
  config.set_best_metric("fid");
  prune_checkpoints(disk(), run, config, life);
  EXPECT_EQ(checkpoints(run), (std::vector<std::string>{"img-000000000200", "img-000000000300"}));
  expect_state(run + "/checkpoints/img-000000000200", 200);
}

TEST(Retention, LeftoversOfDeadLivesGoAndThoseOfNewerOnesStay) {
  const std::string run = fresh_folder();
  const Life first = Life::claim(disk(), run, {});
  save(disk(), run, 100, first);
  begin_checkpoint(disk(), run, 200, first);
  fs::create_directories(run + "/checkpoints/.tmp-img-000000000300-life-9");
  fs::create_directories(run + "/checkpoints/notes");
  std::ofstream(run + "/latest.tmp-123") << "x";
  std::ofstream(run + "/mine.tmp-123") << "x";
  const Life second = Life::claim(disk(), run, {});
  EXPECT_EQ(remove_leftovers(disk(), run, second.number()), 2);
  EXPECT_EQ(checkpoints(run), (std::vector<std::string>{".tmp-img-000000000300-life-9",
                                                        "img-000000000100", "notes"}));
  EXPECT_TRUE(fs::exists(run + "/mine.tmp-123"));
}

TEST(Retention, SavesByTimeCostOnePercentAndComeOnceAMinuteAtMost) {
  CheckpointConfig config;
  config.set_every_minutes(15);
  EXPECT_EQ(seconds_between_saves(config, 0), 60);
  EXPECT_EQ(seconds_between_saves(config, 0.3), 60);
  EXPECT_EQ(seconds_between_saves(config, 3), 300);
  EXPECT_EQ(seconds_between_saves(config, 30), 900) << "never later than was asked for";
  config.set_every_minutes(0.5);
  EXPECT_EQ(seconds_between_saves(config, 3), 30);
  config.set_every_minutes(0);
  EXPECT_EQ(seconds_between_saves(config, 3), 0);
}

TEST(Retention, ARunWithoutCheckpointsStartsFromScratch) {
  const std::string run = fresh_folder();
  EXPECT_FALSE(choose_checkpoint(disk(), run).has_value());
  EXPECT_TRUE(list_checkpoints(disk(), run, Depth::kFull).empty());
  EXPECT_EQ(remove_leftovers(disk(), run, 1), 0);
}

}  // namespace
}  // namespace lf
