#include "train/run_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"

namespace lf {
namespace {

std::string fresh_folder(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

TEST(RunLog, MetricsAreCutBackToTheResumePointAndAHalfLineIsDropped) {
  const std::string folder = fresh_folder("cut_back");
  const std::string path = folder + "/metrics.jsonl";
  std::ofstream(path) << "{\"images\":64,\"loss\":1.5}\n{\"images\":128,\"loss\":1}\n"
                         "{\"images\":192,\"loss\":0.5}\n{\"images\":256,\"lo";
  cut_back_metrics(path, 128);
  EXPECT_EQ(read_file(real_file_system(), path, 1 << 20),
            "{\"images\":64,\"loss\":1.5}\n{\"images\":128,\"loss\":1}\n");
}

TEST(RunLog, OnlyWhatIsUnusualStandsBesideTheLoss) {
  StepReport report;
  report.data_wait = 8e-7;
  report.communication = 0.1;
  report.checkpoint_stall = 0.01;
  EXPECT_EQ(unusual_in(report), std::vector<std::string>{});
  report.diverged = true;
  report.skipped_steps = 3;
  report.straggler = "rank 3 takes 2.1 times the median";
  report.data_wait = 0.341;
  report.checkpoint_stall = 0.062;
  report.communication = 0.5;
  EXPECT_EQ(unusual_in(report),
            (std::vector<std::string>{"diverged", "3 steps skipped: not finite",
                                      "rank 3 takes 2.1 times the median", "waits for data 34%",
                                      "waits for checkpoints 6.2%", "communication 50%"}));
}

TEST(RunLog, EventsPastTheResumePointAreDropped) {
  const std::string folder = fresh_folder("events");
  {
    TensorboardWriter writer(folder, 0);
    for (int step = 1; step <= 5; ++step) writer.scalar(step * 10, "train/loss", step);
  }
  std::vector<std::string> names = real_file_system().list(folder);
  ASSERT_EQ(names.size(), 1U);
  const std::string first = folder + "/" + names[0];
  std::filesystem::rename(first, first + ".0");
  { const TensorboardWriter resumed(folder, 30); }
  const std::string bytes = read_file(real_file_system(), first + ".0", 1 << 20);
  size_t at = 0;
  int scalars = 0;
  TensorboardEvent event;
  while (read_event(bytes, &at, &event)) {
    scalars += event.has_summary() ? 1 : 0;
    EXPECT_LE(event.step(), 30);
  }
  EXPECT_EQ(at, bytes.size());
  EXPECT_EQ(scalars, 3);
}

TEST(RunLog, ATornEventIsNotRead) {
  TensorboardEvent event;
  event.set_step(7);
  event.set_wall_time(1);
  const std::string bytes = frame_event(event);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    size_t at = 0;
    EXPECT_FALSE(read_event(bytes.substr(0, cut), &at, &event)) << cut;
  }
  std::string flipped = bytes;
  flipped[13] = static_cast<char>(flipped[13] ^ 1);
  size_t at = 0;
  EXPECT_FALSE(read_event(flipped, &at, &event));
}

}  // namespace
}  // namespace lf
