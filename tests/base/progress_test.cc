// Lines of progress by value, and what stands on a terminal and elsewhere.
#include "base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/console.h"
#include "base/text.h"

namespace lf {
namespace {

using std::chrono::milliseconds;

void wait(int ms) { std::this_thread::sleep_for(milliseconds(ms)); }

// What `body` prints on stderr, which is a file meanwhile.
template <typename Body>
std::string printed(Body&& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

// The same, where stderr is a terminal.
template <typename Body>
std::string printed_on_terminal(Body&& body) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) return "no terminal";
  const int end = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(end, STDERR_FILENO);
  body();
  ::dup2(before, STDERR_FILENO);
  for (const int fd : {end, before}) ::close(fd);
  // What was written comes in pieces; then, as nobody can write any more, an error.
  std::string text;
  char piece[4096];
  for (ssize_t size = 0; (size = ::read(terminal, piece, sizeof piece)) > 0;) {
    text.append(piece, static_cast<size_t>(size));
  }
  ::close(terminal);
  return text;
}

ProgressLine of_training() {
  return {.title = "train",
          .unit = "images",
          .done = 640,
          .total = 2000,
          .rate = 21.3,
          .values = {"loss 0.1226"},
          .unusual = {"waits for data 34%", "3 steps skipped"}};
}

TEST(ProgressLine, HasWhatPeopleLookAtInOrder) {
  EXPECT_EQ(progress_line(of_training(), 0),
            "train 32%  640/2,000 images  loss 0.1226  21/s  ETA 1m04s  waits for data 34%  "
            "3 steps skipped");
  EXPECT_EQ(progress_line({"verify", "shards", 7, 7, 0, {}, {}}, 0), "verify 100%  7/7 shards");
  EXPECT_EQ(progress_line({"verify", "clips", 0, 0, 0, {}, {}}, 0), "verify 100%  0/0 clips");
  // The last batch may go past the total.
  EXPECT_EQ(progress_line({"train", "images", 2048, 2000, 20, {}, {}}, 0),
            "train 100%  2,000/2,000 images  20/s");
}

TEST(ProgressLine, LosesItsLeastPartsUntilItFits) {
  const std::vector<std::pair<size_t, std::string>> expected = {
      {140,
       "[======              ] train 32%  640/2,000 images  loss 0.1226  21/s  ETA 1m04s  "
       "waits for data 34%  3 steps skipped"},
      {110,
       "train 32%  640/2,000 images  loss 0.1226  21/s  ETA 1m04s  waits for data 34%  "
       "3 steps skipped"},
      {75, "640/2,000  loss 0.1226  ETA 1m04s  waits for data 34%  3 steps skipped"},
      {60, "640/2,000  loss 0.1226  waits for data 34%  3 steps skipped"},
      {50, "640/2,000  loss 0.1226  waits for data 34%"},
      {30, "640/2,000  loss 0.1226"},
      {15, "loss 0.1226"},
      {6, "loss 0"}};
  for (const auto& [columns, text] : expected) {
    EXPECT_EQ(progress_line(of_training(), columns), text) << columns;
  }
  for (size_t columns = 1; columns < 150; ++columns) {
    EXPECT_LE(progress_line(of_training(), columns).size(), columns);
  }
}

TEST(ProgressLine, SharesHaveTwoDigits) {
  const std::vector<std::pair<double, std::string>> expected = {
      {0, "0%"},       {8.075e-7, "0.00%"}, {0.0034, "0.34%"}, {0.00996, "1.0%"},
      {0.034, "3.4%"}, {0.0997, "10%"},     {0.341, "34%"},    {1, "100%"}};
  for (const auto& [share, text] : expected) EXPECT_EQ(human_share(share), text);
}

TEST(ProgressLine, PlainLinesBecomeRarerAsTheWorkGetsLonger) {
  using std::chrono::hours, std::chrono::minutes, std::chrono::seconds;
  EXPECT_EQ(line_interval(seconds(1)), seconds(10));
  EXPECT_EQ(line_interval(hours(1)), minutes(3));
  EXPECT_EQ(line_interval(hours(24 * 30)), minutes(10));
}

TEST(Progress, TheRateIsOfWhatIsDoneNow) {
  const auto rate_of = [](const std::string& line) {
    const size_t end = line.find("/s"), begin = line.rfind(' ', end) + 1;
    double rate = 0;
    EXPECT_TRUE(parse(line.substr(begin, end - begin), &rate)) << line;
    return rate;
  };
  const std::string resumed = printed([] {
    Progress progress("train", "images", 1'000'000, 900'000);
    wait(100);
    progress.finish(900'050);
  });
  EXPECT_LT(rate_of(resumed), 501) << resumed;
  const std::string kept = printed([] {
    Progress progress("samples", "samples", 5000);
    progress.found(4990);
    wait(100);
    progress.finish(5000);
  });
  EXPECT_LT(rate_of(kept), 101) << kept;
  const std::string all_kept = printed([] {
    Progress progress("samples", "samples", 5000);
    progress.found(5000);
    progress.show(5000);
    wait(20);
    progress.finish(5000);
  });
  EXPECT_EQ(all_kept, "samples 100%  5,000/5,000 samples\n");
}

TEST(Console, NewsNamesTheRankAndHowGraveItIs) {
  EXPECT_EQ(news_line(0, "", "wrote clip.png"), "wrote clip.png");
  EXPECT_EQ(news_line(3, "warning", "slow"), "[rank 3] warning: slow");
}

TEST(Console, OnATerminalNewsStandsAboveTheStatusLine) {
  const std::string text = printed_on_terminal([] {
    Progress progress("train", "images", 1000);
    progress.show(250);
    progress.show(260);  // too soon after the last
    console_line("wrote clip.png");
    progress.finish(500);
    console_line("done");
  });
  if (text == "no terminal") GTEST_SKIP() << text;
  const std::string status = "[=====               ] train 25%  250/1,000 images";
  EXPECT_EQ(text.find("\r" + status), 0U) << text;
  EXPECT_EQ(text.find("260"), std::string::npos) << text;
  const size_t news = text.find("\r\x1b[Kwrote clip.png\r\n[=====");
  EXPECT_NE(news, std::string::npos) << text;
  EXPECT_NE(text.find("train 50%", news), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\x1b[K\r\ndone\r\n")) << text;
}

TEST(Console, BehindMpirunTheTerminalIsAsWideAsTold) {
  ::setenv("LASTFRAME_COLUMNS", "30", 1);
  const std::string text = printed([] {
    console_line("[rank 1] warning: slow");
    Progress progress("train", "images", 1000);
    progress.show(0);
  });
  ::unsetenv("LASTFRAME_COLUMNS");
  EXPECT_EQ(text, "\r\x1b[K[rank 1] warning: slow\n\rtrain 0%  0/1,000 images\x1b[K\n");
}

TEST(Console, ElsewhereThereIsNoStatusLine) {
  const std::string text = printed([] {
    Progress progress("train", "images", 1000);
    progress.show(250);
    console_line("wrote clip.png");
    progress.finish(1000);
  });
  EXPECT_EQ(text.find('\r'), std::string::npos) << text;
  EXPECT_EQ(text.find("wrote clip.png\ntrain 100%  1,000/1,000 images"), 0U) << text;
}

}  // namespace
}  // namespace lf
