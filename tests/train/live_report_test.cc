#include "train/live_report.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

namespace lf {
namespace {

TEST(LiveReport, CostsLessThanAHundredthOfTheTime) {
  int written = 0;
  LiveReport report([&] {
    ++written;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  report.after_step();  // there is none yet
  EXPECT_EQ(written, 1);
  for (int i = 0; i < 100; ++i) report.after_news();
  report.after_step();
  EXPECT_EQ(written, 1);
  report.at_end();  // whatever it costs
  EXPECT_EQ(written, 2);
}

TEST(LiveReport, CheapPagesShowEveryPreview) {
  int written = 0;
  LiveReport report([&] { ++written; });
  for (int i = 0; i < 3; ++i) {
    report.after_news();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(written, 3);
}

TEST(LiveReport, APageThatCannotBeWrittenEndsNothing) {
  int tried = 0;
  LiveReport report([&] {
    ++tried;
    throw std::runtime_error("no space");
  });
  report.after_news();
  report.at_end();
  EXPECT_EQ(tried, 2);
}

TEST(LiveReport, AFailedRunIsShown) {
  int written = 0;
  try {
    const LiveReport report([&] { ++written; });
    throw std::runtime_error("the run");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(written, 1);
}

}  // namespace
}  // namespace lf
