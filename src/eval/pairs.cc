#include "eval/pairs.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/error.h"

namespace lf {
namespace {

constexpr int64_t kWindow = 11;
constexpr double kSigma = 1.5;

// [size - 10, size]: row i holds the window's weights at i..i+10, so that filtering is a product.
at::Tensor window_matrix(int64_t size) {
  const at::Tensor offset = at::arange(kWindow, at::kDouble) - (kWindow - 1) / 2;
  at::Tensor weights = (offset * offset / (-2 * kSigma * kSigma)).exp();
  weights = weights / weights.sum();
  at::Tensor rows = at::zeros({size - kWindow + 1, size}, at::kDouble);
  for (int64_t i = 0; i < rows.size(0); ++i) rows[i].slice(0, i, i + kWindow).copy_(weights);
  return rows;
}

// E |x_i - x_j| over all pairs of members, from their order: sum over i of (2 i - S + 1) x_(i).
at::Tensor mean_difference(const at::Tensor& ensemble) {
  const int64_t members = ensemble.size(0);
  const at::Tensor sorted = std::get<0>(ensemble.sort(0));
  at::Tensor weights = 2 * at::arange(members, at::kDouble) - (members - 1);
  std::vector<int64_t> shape(static_cast<size_t>(ensemble.dim()), 1);
  shape[0] = members;
  return (sorted * weights.reshape(shape)).sum(0) *
         (2.0 / (static_cast<double>(members) * static_cast<double>(members)));
}

}  // namespace

at::Tensor psnr_of_frames(const at::Tensor& a_NTHWC, const at::Tensor& b_NTHWC) {
  const at::Tensor delta = a_NTHWC - b_NTHWC;
  const at::Tensor mse_NT = (delta * delta).mean({2, 3, 4});
  return at::where(mse_NT < 1e-10, 100.0, mse_NT.clamp_min(1e-10).log10() * -10);
}

at::Tensor ssim_of_frames(const at::Tensor& a_NTHWC, const at::Tensor& b_NTHWC) {
  const int64_t height = a_NTHWC.size(2), width = a_NTHWC.size(3);
  if (std::min(height, width) < kWindow) {
    fail(Code::kUsage, "ssim has a window of ", kWindow, " pixels, frames are ", width, "x", height,
         "; evaluate larger frames, or psnr");
  }
  const at::Tensor down = window_matrix(height), across = window_matrix(width).t();
  const auto filter = [&](const at::Tensor& x) { return at::matmul(at::matmul(down, x), across); };
  const at::Tensor a = a_NTHWC.permute({0, 1, 4, 2, 3}), b = b_NTHWC.permute({0, 1, 4, 2, 3});
  const at::Tensor mean_a = filter(a), mean_b = filter(b);
  const at::Tensor var_a = filter(a * a) - mean_a * mean_a, var_b = filter(b * b) - mean_b * mean_b;
  const at::Tensor cov = filter(a * b) - mean_a * mean_b;
  constexpr double kC1 = 0.01 * 0.01, kC2 = 0.03 * 0.03;
  const at::Tensor similarity = (2 * mean_a * mean_b + kC1) * (2 * cov + kC2) /
                                ((mean_a * mean_a + mean_b * mean_b + kC1) * (var_a + var_b + kC2));
  return similarity.mean({2, 3, 4});
}

at::Tensor crps_of_frames(const at::Tensor& truth_NTHWC, const at::Tensor& ensemble_SNTHWC) {
  const at::Tensor error = (ensemble_SNTHWC - truth_NTHWC).abs().mean(0);
  return (error - mean_difference(ensemble_SNTHWC) / 2).mean({2, 3, 4});
}

}  // namespace lf
