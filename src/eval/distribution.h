// Metrics that compare two sets of features sample by sample, or judge one set of class scores:
// KID, precision and recall, density and coverage, the Inception Score. Everything is computed in
// double precision and in blocks, so that memory grows with the number of samples, not its square.
// What needs only mean and covariance is frechet.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lf {

// A mean and the standard deviation of the parts it is the mean of.
struct Spread {
  double mean = 0, deviation = 0;
};

// The unbiased squared maximum mean discrepancy over all samples under the kernel (x.y / d + 1)^3.
// May be negative. Code::kUsage with fewer than two samples in a set.
double kernel_distance(const at::Tensor& real_ND, const at::Tensor& fake_ND);

// Its mean over `subsets` pairs of `size` samples, drawn without repetition by `seed`. A set with
// fewer samples makes the subsets smaller.
Spread kernel_distance_of_subsets(const at::Tensor& real_ND, const at::Tensor& fake_ND,
                                  int64_t subsets, int64_t size, uint64_t seed);

// exp of the mean divergence of the samples' class distributions from their average, in `splits`
// consecutive parts. Code::kUsage with fewer samples than parts.
Spread inception_score(const at::Tensor& logits_NC, int64_t splits);

// In balls around the samples of one set that reach to the sample's k-th nearest neighbour.
struct Manifold {
  double precision = 0;  // part of the fakes in a ball of a real one
  double recall = 0;     // part of the reals in a ball of a fake one
  double density = 0;    // balls of reals that a fake lies in, over k
  double coverage = 0;   // part of the reals' balls with a fake in them
};
// Code::kUsage unless both sets have more than k samples.
Manifold manifold(const at::Tensor& real_ND, const at::Tensor& fake_ND, int64_t k);

}  // namespace lf
