#include "eval/distribution.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "base/stop.h"

namespace lf {
namespace {

constexpr int64_t kBlockNumbers = int64_t{1} << 24;  // of one block of a table of pairs

int64_t rows_of_block(int64_t columns) {
  return std::clamp<int64_t>(kBlockNumbers / std::max<int64_t>(1, columns), 1, 4096);
}

void require_pair(const at::Tensor& real_ND, const at::Tensor& fake_ND, int64_t least,
                  const char* metric) {
  if (real_ND.size(1) != fake_ND.size(1)) {
    fail(Code::kUsage, "one set has features of ", real_ND.size(1), " numbers, the other of ",
         fake_ND.size(1), "; ", metric, " needs the same extractor and layer for both");
  }
  const int64_t fewest = std::min(real_ND.size(0), fake_ND.size(0));
  if (fewest < least) {
    fail(Code::kUsage, metric, " needs at least ", least, " samples of each set, one has ", fewest);
  }
}

// The sum of (x.y / d + 1)^3 over all pairs.
double kernel_sum(const at::Tensor& x_ND, const at::Tensor& y_ND) {
  const auto d = static_cast<double>(x_ND.size(1));
  const int64_t rows = rows_of_block(y_ND.size(0));
  double sum = 0;
  for (int64_t from = 0; from < x_ND.size(0); from += rows) {
    interruption_point();
    const at::Tensor base = at::matmul(x_ND.slice(0, from, from + rows), y_ND.t()) / d + 1;
    sum += (base * base * base).sum().item<double>();
  }
  return sum;
}

double kernel_trace(const at::Tensor& x_ND) {
  const at::Tensor base = (x_ND * x_ND).sum(1) / static_cast<double>(x_ND.size(1)) + 1;
  return (base * base * base).sum().item<double>();
}

double discrepancy(const at::Tensor& x, const at::Tensor& y) {
  const auto m = static_cast<double>(x.size(0)), n = static_cast<double>(y.size(0));
  return (kernel_sum(x, x) - kernel_trace(x)) / (m * (m - 1)) +
         (kernel_sum(y, y) - kernel_trace(y)) / (n * (n - 1)) - 2 * kernel_sum(x, y) / (m * n);
}

Spread spread_of(const std::vector<double>& parts) {
  Spread out;
  for (const double part : parts) out.mean += part / static_cast<double>(parts.size());
  double squares = 0;
  for (const double part : parts) squares += (part - out.mean) * (part - out.mean);
  out.deviation = std::sqrt(squares / static_cast<double>(parts.size()));
  return out;
}

at::Tensor subset(const at::Tensor& x_ND, int64_t size, uint64_t seed, uint64_t number) {
  const Permutation order(seed, number, static_cast<uint64_t>(x_ND.size(0)));
  at::Tensor chosen = at::arange(size, at::kLong);
  auto* index = chosen.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < size; ++i) {
    index[i] = static_cast<int64_t>(order(static_cast<uint64_t>(i)));
  }
  return x_ND.index_select(0, chosen);
}

// Squared distances of a block of rows to all of `y`.
at::Tensor squared_distances(const at::Tensor& x_ND, const at::Tensor& y_ND) {
  const at::Tensor x2 = (x_ND * x_ND).sum(1, true), y2 = (y_ND * y_ND).sum(1);
  return (x2 + y2 - 2 * at::matmul(x_ND, y_ND.t())).clamp_min(0);
}

// Of each sample, squared, to its k-th nearest neighbour in its own set.
at::Tensor radii_of(const at::Tensor& x_ND, int64_t k) {
  at::Tensor radii = at::zeros({x_ND.size(0)}, at::kDouble);
  const int64_t rows = rows_of_block(x_ND.size(0));
  for (int64_t from = 0; from < x_ND.size(0); from += rows) {
    interruption_point();
    const at::Tensor table = squared_distances(x_ND.slice(0, from, from + rows), x_ND);
    // The nearest is the sample itself.
    radii.slice(0, from, from + rows).copy_(std::get<0>(table.kthvalue(k + 1, 1)));
  }
  return radii;
}

}  // namespace

double kernel_distance(const at::Tensor& real_ND, const at::Tensor& fake_ND) {
  require_pair(real_ND, fake_ND, 2, "kid");
  return discrepancy(real_ND.to(at::kDouble), fake_ND.to(at::kDouble));
}

Spread kernel_distance_of_subsets(const at::Tensor& real_ND, const at::Tensor& fake_ND,
                                  int64_t subsets, int64_t size, uint64_t seed) {
  require_pair(real_ND, fake_ND, 2, "kid_subsets");
  size = std::min({size, real_ND.size(0), fake_ND.size(0)});
  const at::Tensor real = real_ND.to(at::kDouble), fake = fake_ND.to(at::kDouble);
  std::vector<double> values;
  for (int64_t i = 0; i < subsets; ++i) {
    const auto number = static_cast<uint64_t>(2 * i);
    values.push_back(
        discrepancy(subset(real, size, seed, number), subset(fake, size, seed, number + 1)));
  }
  return spread_of(values);
}

Spread inception_score(const at::Tensor& logits_NC, int64_t splits) {
  const int64_t n = logits_NC.size(0);
  if (n < splits) {
    fail(Code::kUsage, "inception_score takes ", splits, " parts and needs as many samples at ",
         "least, there are ", n);
  }
  std::vector<double> scores;
  for (int64_t i = 0; i < splits; ++i) {
    const at::Tensor part = logits_NC.slice(0, i * n / splits, (i + 1) * n / splits);
    const at::Tensor log_p = at::log_softmax(part.to(at::kDouble), 1);
    const at::Tensor p = log_p.exp();
    const at::Tensor log_mean = p.mean(0, true).log();
    // A class that no sample can be of has probability 0 everywhere: 0 log 0 is 0.
    const at::Tensor divergence = (p * (log_p - log_mean)).nan_to_num(0.0).sum(1);
    scores.push_back(std::exp(divergence.mean().item<double>()));
  }
  return spread_of(scores);
}

Manifold manifold(const at::Tensor& real_ND, const at::Tensor& fake_ND, int64_t k) {
  require_pair(real_ND, fake_ND, k + 1, "a nearest-neighbour metric");
  // About their mean, so that the distances of features far from zero keep their digits.
  const at::Tensor centre = real_ND.to(at::kDouble).mean(0);
  const at::Tensor real = real_ND.to(at::kDouble) - centre, fake = fake_ND.to(at::kDouble) - centre;
  const at::Tensor real_radii = radii_of(real, k), fake_radii = radii_of(fake, k);
  const auto reals = static_cast<double>(real.size(0)), fakes = static_cast<double>(fake.size(0));
  Manifold out;
  at::Tensor inside = at::zeros({fake.size(0)}, at::kLong);  // balls of reals each fake lies in
  const int64_t rows = rows_of_block(fake.size(0));
  for (int64_t from = 0; from < real.size(0); from += rows) {
    interruption_point();
    const at::Tensor table = squared_distances(real.slice(0, from, from + rows), fake);
    const at::Tensor radii = real_radii.slice(0, from, from + rows);
    inside += (table < radii.unsqueeze(1)).sum(0);
    out.recall += (table < fake_radii).any(1).sum().item<double>() / reals;
    out.coverage += (table.amin(1) < radii).sum().item<double>() / reals;
  }
  out.precision = (inside > 0).sum().item<double>() / fakes;
  out.density = inside.sum().item<double>() / (static_cast<double>(k) * fakes);
  return out;
}

}  // namespace lf
