#include "eval/pairs.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "eval/codes.h"
#include "eval/metrics.h"
#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

at::Tensor clips(int64_t n, int64_t frames, int64_t side, uint64_t seed) {
  return normal_rows(n * frames, side * side * 3, seed)
      .sigmoid()
      .reshape({n, frames, side, side, 3});
}

// Zeros against ones are 0 dB and 9.9990e-5.
TEST(Pairs, ZerosAgainstOnesMatchTheFixtures) {
  const at::Tensor zeros = at::zeros({2, 3, 16, 16, 3}, at::kDouble), ones = zeros + 1;
  const MetricValue psnr = summarise_frames(psnr_of_frames(zeros, ones));
  const MetricValue ssim = summarise_frames(ssim_of_frames(zeros, ones));
  EXPECT_NEAR(psnr.value, 0, 1e-12);
  EXPECT_NEAR(ssim.value, 1e-4 / (1 + 1e-4), 1e-12);
  EXPECT_NEAR(ssim.value, 9.9990e-5, 1e-9);
  EXPECT_EQ(psnr.n, 2);
}

TEST(Pairs, EqualImagesAreAt100DecibelsAndSimilarityOne) {
  const at::Tensor x = clips(2, 2, 12, 1);
  EXPECT_DOUBLE_EQ(psnr_of_frames(x, x).min().item<double>(), 100);
  EXPECT_NEAR(ssim_of_frames(x, x).min().item<double>(), 1, 1e-12);
}

// Averaged over frames, in decibels, and per frame beside it.
TEST(Pairs, PsnrIsPerFrameAndThenAveraged) {
  const at::Tensor x = at::zeros({1, 2, 4, 4, 1}, at::kDouble);
  at::Tensor y = x.clone();
  y.select(1, 0).fill_(0.1);   // 20 dB
  y.select(1, 1).fill_(0.01);  // 40 dB
  const MetricValue psnr = summarise_frames(psnr_of_frames(x, y));
  EXPECT_NEAR(psnr.value, 30, 1e-9);
  ASSERT_EQ(psnr.per_frame.size(), 2U);
  EXPECT_NEAR(psnr.per_frame[0], 20, 1e-9);
  EXPECT_NEAR(psnr.per_frame[1], 40, 1e-9);
  EXPECT_EQ(psnr.more[0].first, "last_frame");
  EXPECT_NEAR(psnr.more[0].second, 40, 1e-9);
}

// One window of 11 x 11, weight by weight.
TEST(Pairs, SsimIsTheWeightedFormulaOfAWindow) {
  const at::Tensor x = clips(1, 1, 11, 2), y = clips(1, 1, 11, 3);
  double similarity = 0;
  for (int64_t c = 0; c < 3; ++c) {
    double weight = 0, a = 0, b = 0, aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < 11; ++i) {
      for (int64_t j = 0; j < 11; ++j) {
        const auto di = static_cast<double>(i - 5), dj = static_cast<double>(j - 5);
        const double w = std::exp(-(di * di + dj * dj) / 4.5);
        const double p = x[0][0][i][j][c].item<double>(), q = y[0][0][i][j][c].item<double>();
        weight += w, a += w * p, b += w * q, aa += w * p * p, bb += w * q * q, ab += w * p * q;
      }
    }
    a /= weight, b /= weight;
    const double va = aa / weight - a * a, vb = bb / weight - b * b, cov = ab / weight - a * b;
    similarity +=
        (2 * a * b + 1e-4) * (2 * cov + 9e-4) / ((a * a + b * b + 1e-4) * (va + vb + 9e-4)) / 3;
  }
  EXPECT_NEAR(ssim_of_frames(x, y).item<double>(), similarity, 1e-12);
}

TEST(Pairs, SsimRefusesFramesSmallerThanItsWindow) {
  const at::Tensor x = clips(1, 1, 10, 1);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { ssim_of_frames(x, x); }), "10x10"));
}

TEST(Pairs, CrpsIsErrorLessHalfTheSpread) {
  const at::Tensor truth = clips(2, 1, 3, 1);
  std::vector<at::Tensor> members;
  for (uint64_t s = 0; s < 5; ++s) members.push_back(clips(2, 1, 3, 10 + s));
  double expected = 0;
  for (const at::Tensor& a : members) {
    expected += (a - truth).abs().mean().item<double>() / 5;
    for (const at::Tensor& b : members) expected -= (a - b).abs().mean().item<double>() / 50;
  }
  EXPECT_NEAR(crps_of_frames(truth, at::stack(members)).mean().item<double>(), expected, 1e-12);
  EXPECT_NEAR(crps_of_frames(truth, members[0].unsqueeze(0)).mean().item<double>(),
              (members[0] - truth).abs().mean().item<double>(), 1e-12);
}

TEST(Codes, EvenUseHasFullPerplexity) {
  const at::Tensor even = at::arange(64, at::kLong).remainder(8).reshape({4, 4, 4});
  const CodeUse use = code_use(count_codes(even, 16));
  EXPECT_DOUBLE_EQ(use.usage, 0.5);
  EXPECT_NEAR(use.perplexity, 8, 1e-12);
  EXPECT_NEAR(use.bits_per_image, 16 * 3, 1e-9);
  const CodeUse one = code_use(count_codes(at::zeros({3, 5}, at::kInt), 16));
  EXPECT_NEAR(one.perplexity, 1, 1e-12);
  EXPECT_NEAR(one.bits_per_image, 0, 1e-9);
}

TEST(Codes, CodesOutsideTheBookAreNamed) {
  const at::Tensor codes = at::full({2, 3}, 9, at::kLong);
  EXPECT_TRUE(contains(error_of(Code::kData, [&] { count_codes(codes, 9); }), "expected 0 to 8"));
  EXPECT_TRUE(contains(error_of(Code::kData, [&] { count_codes(codes - 10, 9); }), "from -1"));
  EXPECT_TRUE(
      contains(error_of(Code::kData, [&] { count_codes(codes.to(at::kFloat), 9); }), "fractions"));
}

}  // namespace
}  // namespace lf
