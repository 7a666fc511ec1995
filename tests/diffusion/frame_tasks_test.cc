// Random training tasks: their statistics against the published samplers', and what always holds.
#include "diffusion/frame_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"

namespace lf {
namespace {

// Uniform draws of one key.
Uniforms keyed(uint64_t number) {
  uint64_t next = 0;
  return [stream = Stream{3, Purpose::kFrameChoice, number}, next]() mutable {
    float value = 0;
    uniform(stream, next++, 1, &value);
    return static_cast<double>(value);
  };
}

struct Counts {
  double observed = 0, latent = 0, unconditional = 0;  // means over the tasks
};

Counts count(int64_t tasks, const std::function<FrameWindow(const Uniforms&)>& draw) {
  Counts counts;
  for (int64_t i = 0; i < tasks; ++i) {
    const FrameWindow window = draw(keyed(static_cast<uint64_t>(i)));
    const auto observed = window.places(FrameRole::kObserved).size();
    counts.observed += static_cast<double>(observed);
    counts.latent += static_cast<double>(window.places(FrameRole::kLatent).size());
    counts.unconditional += observed == 0 ? 1 : 0;
  }
  for (double* sum : {&counts.observed, &counts.latent, &counts.unconditional})
    *sum /= static_cast<double>(tasks);
  return counts;
}

// 2.15, 12.68 and 0.713 come from an independent simulation of 40,000 tasks of the published
// sampler; a published estimate of 2.27, 12.56 and 0.70 by 5,000 is within its own noise of them.
TEST(FrameTasks, GroupedTasksHaveThePublishedMeans) {
  const Counts counts =
      count(20000, [](const Uniforms& uniform) { return grouped_task(300, 20, 0.5, uniform); });
  EXPECT_NEAR(counts.observed, 2.15, 0.05 * 2.15);
  EXPECT_NEAR(counts.latent, 12.68, 0.05 * 12.68);
  EXPECT_NEAR(counts.unconditional, 0.713, 0.05 * 0.713);
  const Counts small =
      count(5000, [](const Uniforms& uniform) { return grouped_task(20, 8, 0.5, uniform); });
  EXPECT_NEAR(small.unconditional, 0.69, 0.05 * 0.69);
}

TEST(FrameTasks, MoreIsShownIfAsked) {
  const auto shown = [](double observed) {
    return count(2000,
                 [=](const Uniforms& uniform) { return grouped_task(100, 10, observed, uniform); })
        .observed;
  };
  EXPECT_EQ(shown(0), 0);
  EXPECT_GT(shown(1), 1.5 * shown(0.5));
}

TEST(FrameTasks, GroupedTasksAreInOrderAndFit) {
  for (const int64_t frames : {1, 2, 5, 20, 300}) {
    for (const int64_t places : {1, 2, 8, 20}) {
      for (uint64_t i = 0; i < 200; ++i) {
        const FrameWindow window = grouped_task(frames, places, 0.5, keyed(i));
        ASSERT_EQ(static_cast<int64_t>(window.index.size()), places);
        ASSERT_FALSE(window.places(FrameRole::kLatent).empty());
        int64_t last = -1;
        for (size_t place = 0; place < window.index.size(); ++place) {
          if (window.role[place] == FrameRole::kAbsent) {
            ASSERT_EQ(window.index[place], -1);
            last = frames;  // nothing comes after an empty place
            continue;
          }
          ASSERT_GT(window.index[place], last);
          ASSERT_LT(last = window.index[place], frames);
        }
      }
    }
  }
}

TEST(FrameTasks, MasksHaveTheirSizesAndTheirRate) {
  constexpr int64_t kFrames = 16, kMost = 4, kTasks = 20000;
  std::vector<int64_t> sizes(kMost + 1), places(kFrames);
  for (int64_t i = 0; i < kTasks; ++i) {
    const FrameWindow window = masked_task(kFrames, kMost, 0.25, keyed(static_cast<uint64_t>(i)));
    const std::vector<int64_t> shown = window.places(FrameRole::kObserved);
    ASSERT_LE(shown.size(), static_cast<size_t>(kMost));
    ++sizes[shown.size()];
    for (const int64_t place : shown) ++places[static_cast<size_t>(place)];
  }
  EXPECT_NEAR(static_cast<double>(sizes[0]) / kTasks, 0.25, 0.015);
  for (int64_t k = 1; k <= kMost; ++k)
    EXPECT_NEAR(static_cast<double>(sizes[static_cast<size_t>(k)]) / kTasks, 0.75 / kMost, 0.015);
  // 0.75 of the tasks show 2.5 frames on average, each frame as often as any other.
  for (const int64_t times : places)
    EXPECT_NEAR(static_cast<double>(times) / kTasks, 0.75 * 2.5 / kFrames, 0.015);
  for (uint64_t i = 0; i < 100; ++i)
    EXPECT_TRUE(masked_task(kFrames, kMost, 1, keyed(i)).places(FrameRole::kObserved).empty());
}

}  // namespace
}  // namespace lf
