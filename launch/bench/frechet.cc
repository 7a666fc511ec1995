// `lastframe bench frechet`: how fast mean and covariance of features are gathered, against the
// matrix multiplication that their arithmetic amounts to, and how long the distance takes.
#include "eval/frechet.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "base/json.h"
#include "launch/commands.h"

namespace lf {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Correlated and not negative, as pooled activations are; single precision, as extractors give
// them.
at::Tensor activations(int64_t samples, int64_t dim, const at::Tensor& mix, double shift) {
  return at::relu(at::matmul(at::randn({samples, mix.size(0)}), mix) +
                  0.3 * at::randn({samples, dim}) + shift);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

}  // namespace

int bench_frechet(const Arguments& arguments) {
  const int64_t dim = arguments.number("--dim", 2048, 2, 16384);
  const int64_t samples = arguments.number("--samples", 10000, 2, 10'000'000);
  const int64_t trials = arguments.number("--trials", 3, 1, 1000);
  at::set_num_threads(static_cast<int>(arguments.number("--threads", 1, 1, 4096)));
  const at::Tensor mix = at::randn({256, dim}) / 8;
  const at::Tensor real = activations(samples, dim, mix, 0),
                   fake = activations(samples, dim, mix, 0.1);
  const at::Tensor doubles = real.to(at::kDouble);
  std::vector<double> gathering, limit, distance;
  double value = 0;
  for (int64_t trial = 0; trial < trials;
       ++trial) {  // taking turns, so that both see the same load
    Moments a, b;
    gathering.push_back(seconds_of([&] { a.add(real); }));
    limit.push_back(seconds_of([&] { at::matmul(doubles.t(), doubles); }));
    b.add(fake);
    distance.push_back(seconds_of([&] { value = frechet_distance(a, b); }));
  }
  const double part = median(limit) / median(gathering);
  if (arguments.has("--json")) {
    Json json;
    json.object([&] {
      json.field("dim", dim).field("samples", samples).field("threads", at::get_num_threads());
      json.field("moments_seconds", median(gathering)).field("matmul_seconds", median(limit));
      json.field("moments_of_matmul", part).field("distance_seconds", median(distance));
      json.field("value", value);
    });
    std::puts(json.text().c_str());
    return 0;
  }
  std::printf(
      "moments of %lld samples of %lld numbers: %.3f s, the bare matrix product %.3f s (%.0f %%)\n"
      "distance: %.3f s (%d threads)\n",
      static_cast<long long>(samples), static_cast<long long>(dim), median(gathering),
      median(limit), 100 * part, median(distance), at::get_num_threads());
  return 0;
}

}  // namespace lf
