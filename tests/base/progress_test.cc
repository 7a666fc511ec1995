// What the progress bar prints, on a terminal and elsewhere.
#include "base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

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
  std::string text(1 << 14, '\0');
  const ssize_t size = ::read(terminal, text.data(), text.size());
  for (const int fd : {terminal, end, before}) ::close(fd);
  text.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return text;
}

TEST(Progress, ALogGetsOneWholeLineAnInterval) {
  const std::string text = printed([] {
    Progress bar("train", "images", 4000, 0, milliseconds(400));
    for (uint64_t done = 0; done < 2000; done += 1000) bar.show(done);
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "") << "the first interval is not over";
    ::testing::internal::CaptureStderr();
    wait(450);
    bar.show(2000, "loss 0.5");
    bar.show(3000);
  });
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(split(text, '\n').size(), 2U) << text;
  EXPECT_EQ(text.find("train 50% 2,000/4,000 images "), 0U) << text;
  EXPECT_NE(text.find("/s ETA "), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with(" | loss 0.5\n")) << text;
}

TEST(Progress, AForcedLineComesAtOnce) {
  const std::string text = printed([] {
    Progress bar("build", "clips", 10, 0, std::chrono::hours(1));
    bar.show(1, "", /*force=*/true);
  });
  EXPECT_EQ(text.find("build 10% 1/10 clips"), 0U) << text;
}

TEST(Progress, TheRateIsOfThisProcessAndTheEtaFollowsFromIt) {
  printed([] {
    Progress bar("train", "images", 1'000'000, 900'000, milliseconds(0));
    wait(100);
    bar.show(901'000);
    const double rate = bar.per_second();
    EXPECT_GT(rate, 100) << "what an earlier process made is not counted";
    EXPECT_LT(rate, 10'001);
    EXPECT_DOUBLE_EQ(bar.eta_seconds(901'000), 99'000 / rate);
    EXPECT_EQ(bar.eta_seconds(1'000'000), 0);
    bar.finish(902'000);
    EXPECT_LT(bar.per_second(), 20'001);
  });
}

TEST(Progress, FinishPrintsTheLastLineWithoutAnEta) {
  const std::string text = printed([] {
    Progress bar("train", "images", 500, 0, std::chrono::hours(1));
    wait(20);
    bar.finish(500, "done");
  });
  EXPECT_EQ(text.find("train 100% 500/500 images "), 0U) << text;
  EXPECT_EQ(text.find("ETA"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("/s | done\n")) << text;
}

TEST(Progress, NothingToDoAndNoTimeGiveNoRate) {
  const std::string text = printed([] { Progress("verify", "clips", 0).finish(0); });
  EXPECT_EQ(text, "verify 100% 0/0 clips\n");
}

TEST(Progress, ATerminalGetsABarThatIsRedrawnAndFits) {
  const std::string text = printed_on_terminal([] {
    Progress bar("train", "images", 1000);
    bar.show(250);
    bar.show(260);  // too soon after the last
    bar.finish(500, std::string(500, 'x'));
  });
  if (text == "no terminal") GTEST_SKIP() << text;
  EXPECT_EQ(text.find("\r[=====               ] train 25% 250/1,000 images"), 0U) << text;
  EXPECT_EQ(text.find("260"), std::string::npos) << text;
  const size_t last = text.rfind("\r[");
  ASSERT_NE(last, std::string::npos);
  EXPECT_EQ(text.find("[==========          ] train 50% 500/1,000 images", last), last + 1) << text;
  EXPECT_LE(text.find("\x1b[K", last) - last, 100U) << "a line that wraps cannot be redrawn";
  EXPECT_TRUE(text.ends_with("\x1b[K\r\n")) << text;
}

}  // namespace
}  // namespace lf
