#include "eval/distribution.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

double kernel(const at::Tensor& x, const at::Tensor& y) {
  return std::pow(x.dot(y).item<double>() / static_cast<double>(x.size(0)) + 1, 3);
}

// The definition, pair by pair.
double discrepancy(const at::Tensor& x, const at::Tensor& y) {
  const auto mean = [](const at::Tensor& a, const at::Tensor& b, bool same) {
    double sum = 0, pairs = 0;
    for (int64_t i = 0; i < a.size(0); ++i) {
      for (int64_t j = 0; j < b.size(0); ++j) {
        if (same && i == j) continue;
        sum += kernel(a[i], b[j]);
        ++pairs;
      }
    }
    return sum / pairs;
  };
  return mean(x, x, true) + mean(y, y, true) - 2 * mean(x, y, false);
}

TEST(Kid, IsTheMeanOverAllPairs) {
  const at::Tensor x = mixed_rows(13, 6, 1), y = mixed_rows(9, 6, 2) * 1.2;
  EXPECT_NEAR(kernel_distance(x, y), discrepancy(x, y), 1e-9 * std::abs(discrepancy(x, y)));
}

TEST(Kid, SubsetsAreKeyedAndScatterAboutTheWhole) {
  const at::Tensor x = normal_rows(600, 8, 1), y = normal_rows(500, 8, 2) * 1.5;
  const double whole = kernel_distance(x, y);
  const Spread a = kernel_distance_of_subsets(x, y, 100, 100, 7);
  const Spread again = kernel_distance_of_subsets(x, y, 100, 100, 7);
  const Spread other = kernel_distance_of_subsets(x, y, 100, 100, 8);
  EXPECT_EQ(a.mean, again.mean);
  EXPECT_NE(a.mean, other.mean);
  EXPECT_GT(a.deviation, 0);
  // 100 subsets: the mean is within a few tenths of the deviation.
  EXPECT_LT(std::abs(a.mean - whole), 0.5 * a.deviation);
  EXPECT_LT(std::abs(other.mean - whole), 0.5 * other.deviation);
  // Subsets of everything are everything.
  EXPECT_NEAR(kernel_distance_of_subsets(x, x, 3, 10000, 1).mean, kernel_distance(x, x), 1e-9);
}

TEST(Kid, OneSampleIsRefused) {
  const std::string message =
      error_of(Code::kUsage, [] { kernel_distance(normal_rows(1, 3, 1), normal_rows(5, 3, 1)); });
  EXPECT_TRUE(contains(message, "at least 2 samples")) << message;
}

TEST(InceptionScore, CountsClassesThatAreSureAndEven) {
  // Every part has each of 5 classes twice, with certainty: the score is 5.
  const at::Tensor sure = at::eye(5, at::kDouble).repeat({20, 1}) * 1000.0;
  const Spread score = inception_score(sure, 10);
  EXPECT_NEAR(score.mean, 5, 1e-9);
  EXPECT_NEAR(score.deviation, 0, 1e-9);
  EXPECT_NEAR(inception_score(at::zeros({100, 5}, at::kDouble), 10).mean, 1, 1e-12);
  // Parts are consecutive: with one class a part, no part has variety.
  const at::Tensor sorted = at::eye(5, at::kDouble).repeat_interleave(20, 0) * 1000.0;
  EXPECT_NEAR(inception_score(sorted, 5).mean, 1, 1e-9);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { inception_score(sure.slice(0, 0, 9), 10); }),
                       "there are 9"));
}

TEST(Manifold, CountsNeighboursOnALine) {
  const at::Tensor real = at::tensor({0.0, 1.0, 2.0, 3.0}, at::kDouble).unsqueeze(1);
  // k = 1: every real ball has radius 1; 0.5 lies in two of them, 10 and 20 in none.
  const at::Tensor fake = at::tensor({0.5, 10.0, 20.0}, at::kDouble).unsqueeze(1);
  const Manifold m = manifold(real, fake, 1);
  EXPECT_DOUBLE_EQ(m.precision, 1.0 / 3);
  EXPECT_DOUBLE_EQ(m.recall, 1);  // the fakes' balls reach 9.5, 9.5 and 10
  EXPECT_DOUBLE_EQ(m.density, 2.0 / 3);
  EXPECT_DOUBLE_EQ(m.coverage, 0.5);
}

TEST(Manifold, IdenticalSetsAreWhollyCovered) {
  const at::Tensor x = normal_rows(60, 5, 1) + 1e4;
  const Manifold m = manifold(x, x, 3);
  EXPECT_DOUBLE_EQ(m.precision, 1);
  EXPECT_DOUBLE_EQ(m.recall, 1);
  EXPECT_DOUBLE_EQ(m.coverage, 1);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { manifold(x.slice(0, 0, 3), x, 3); }),
                       "at least 4 samples"));
}

}  // namespace
}  // namespace lf
