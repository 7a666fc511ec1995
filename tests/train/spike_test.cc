#include "train/spike.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "base/random.h"

namespace lf {
namespace {

TEST(SpikeWatch, NoiseAndAFallingLossAreNoSpikes) {
  std::vector<float> noise(2000);
  normal({1, Purpose::kGenerated, 0, 0}, 0, noise.size(), noise.data());
  SpikeWatch watch;
  for (size_t i = 0; i < noise.size(); ++i) {
    const double fall = std::exp(-static_cast<double>(i) / 300);
    EXPECT_LT(watch.add(1 + fall + 0.05 * static_cast<double>(noise[i])), 6) << i;
  }
}

TEST(SpikeWatch, EverySpikeOfSeveralIsSeen) {
  std::vector<float> noise(300);
  normal({2, Purpose::kGenerated, 0, 0}, 0, noise.size(), noise.data());
  SpikeWatch watch;
  for (size_t i = 0; i < noise.size(); ++i) {
    const bool spike = i == 100 || i == 110 || i == 290;
    const double height = watch.add(1 + 0.05 * static_cast<double>(noise[i]) + (spike ? 2 : 0));
    EXPECT_EQ(height > 8, spike) << i << ": " << height;
  }
}

TEST(SpikeWatch, TooFewOrNoNumbersSayNothing) {
  SpikeWatch watch;
  for (int i = 0; i < 15; ++i) EXPECT_EQ(watch.add(i % 2 == 0 ? 1 : 100), 0);
  EXPECT_EQ(watch.add(std::numeric_limits<double>::quiet_NaN()), 0);
  SpikeWatch flat;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(flat.add(1), 0);
}

}  // namespace
}  // namespace lf
