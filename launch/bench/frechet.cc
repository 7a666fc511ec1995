// `lastframe bench frechet`: the time that mean and covariance of features take, beside the matrix
// product that their arithmetic amounts to, and the time of the distance.
#include "eval/frechet.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>

#include <cstdio>
#include <functional>

#include "base/clock.h"
#include "base/json.h"
#include "launch/bench/median.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"

namespace lf {
namespace {

double seconds_of(const std::function<void()>& work) {
  const Clock::time_point begin = Clock::now();
  work();
  return seconds_since(begin);
}

// Correlated and not negative, as pooled activations are, in FP32.
at::Tensor activations(int64_t samples, int64_t dim, const at::Tensor& mix, double shift) {
  return at::relu(at::matmul(at::randn({samples, mix.size(0)}), mix) +
                  0.3 * at::randn({samples, dim}) + shift);
}

int bench_frechet(const Arguments& arguments) {
  const int64_t dim = arguments.integer("--dim");
  const int64_t samples = arguments.integer("--samples");
  const int64_t trials = arguments.integer("--trials");
  at::set_num_threads(static_cast<int>(arguments.integer("--threads")));
  const at::Tensor mix = at::randn({256, dim}) / 8;
  const at::Tensor real = activations(samples, dim, mix, 0),
                   fake = activations(samples, dim, mix, 0.1);
  const at::Tensor doubles = real.to(at::kDouble);
  std::vector<double> gathering, limit, distance;
  double value = 0;
  for (int64_t trial = 0; trial < trials; ++trial) {  // alternating, so that both see the same load
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
    print(json.text() + "\n");
    return 0;
  }
  std::printf(
      "moments of %lld samples of %lld values: %.3f s, the bare matrix product %.3f s (%.0f %%)\n"
      "distance: %.3f s (%d threads)\n",
      static_cast<long long>(samples), static_cast<long long>(dim), median(gathering),
      median(limit), 100 * part, median(distance), at::get_num_threads());
  return 0;
}

constexpr Option kBenchFrechetOptions[] = {
    {"--dim", integer(2, 16384), "values of a feature", {.fallback = "2048"}},
    {"--samples", integer(2, 10'000'000), "features of a set", {.fallback = "10000"}},
    {"--threads", integer(1, 4096), "CPU threads", {.fallback = "1"}},
    {"--trials", integer(1, 1000), "trials of each; the median is shown", {.fallback = "3"}},
    kJsonOption,
};

}  // namespace

const Command kBenchFrechetCommand = {
    .name = "bench frechet",
    .summary = "times the moments of features and the Frechet distance",
    .details =
        "Gathers mean and covariance of FP32 features in double precision, alternating with the "
        "bare product of the same matrix. The features are random.",
    .example = "lastframe bench frechet\nlastframe bench frechet --dim 768 --threads 2 --json",
    .options = kBenchFrechetOptions,
    .run = bench_frechet,
};

}  // namespace lf
