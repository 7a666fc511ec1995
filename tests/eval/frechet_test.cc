#include "eval/frechet.h"

#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "tests/error_of.h"
#include "tests/eval/features_fixture.h"

namespace lf {
namespace {

Moments gaussian(const std::vector<double>& mean, const std::vector<double>& covariance) {
  const auto d = static_cast<int64_t>(mean.size());
  return {1000, at::tensor(mean, at::kDouble), at::tensor(covariance, at::kDouble).reshape({d, d})};
}

// tr S1 + tr S2 - 2 |X Y^T|_* with centred features over sqrt(n - 1): no covariance is formed.
double nuclear_form(const at::Tensor& x, const at::Tensor& y) {
  const auto centred = [](const at::Tensor& rows) {
    return (rows - rows.mean(0)) / std::sqrt(static_cast<double>(rows.size(0) - 1));
  };
  const at::Tensor a = centred(x), b = centred(y), delta = x.mean(0) - y.mean(0);
  return (delta * delta).sum().item<double>() + (a * a).sum().item<double>() +
         (b * b).sum().item<double>() -
         2 * at::linalg_svdvals(at::matmul(a, b.t())).sum().item<double>();
}

void expect_relative(double value, double expected, double tolerance, const char* what) {
  EXPECT_NEAR(value, expected, tolerance * std::abs(expected)) << what;
}

// The closed form in two dimensions.
TEST(Frechet, TwoDimensionsMatchTheClosedForm) {
  const double distance =
      frechet_distance(gaussian({0, 0}, {2, .5, .5, 1}), gaussian({1, -1}, {1, -.3, -.3, 1.5}));
  EXPECT_NEAR(distance, 2.4634711896, 1e-10);
}

// By eigenvalues and by the nuclear norm, also with fewer samples than dimensions, and nearly
// singular.
TEST(Frechet, EigenvaluesAndNuclearFormAgree) {
  const at::Tensor scales = at::logspace(0, -6, 24, 10.0, at::kDouble);
  struct Case {
    const char* name;
    at::Tensor x, y;
  };
  const Case cases[] = {
      {"regular", mixed_rows(300, 24, 1), mixed_rows(200, 24, 2) * 1.1},
      {"fewer samples than dimensions", mixed_rows(10, 24, 3), mixed_rows(15, 24, 4)},
      {"one of them singular", mixed_rows(200, 24, 5), mixed_rows(9, 24, 6)},
      {"nearly singular", normal_rows(90, 24, 7) * scales, normal_rows(80, 24, 8) * scales + 0.01},
      {"far from zero", mixed_rows(300, 24, 1) + 1e4, mixed_rows(200, 24, 2) * 1.1 + 1e4}};
  for (const Case& c : cases) {
    expect_relative(frechet_distance(of(c.x), of(c.y)), nuclear_form(c.x, c.y), 1e-7, c.name);
    expect_relative(frechet_distance(of(c.y), of(c.x)), nuclear_form(c.x, c.y), 1e-7, c.name);
  }
}

TEST(Frechet, IdenticalSetsAreAtZero) {
  const at::Tensor scales = at::logspace(2, -6, 40, 10.0, at::kDouble);
  for (const at::Tensor& x : {mixed_rows(500, 40, 1), mixed_rows(12, 40, 2) * 100.0,
                              normal_rows(300, 40, 3) * scales + 1e4, normal_rows(2, 40, 4)}) {
    const double distance = frechet_distance(of(x), of(x));
    EXPECT_GE(distance, 0);
    EXPECT_LT(distance, 1e-6);
  }
}

// Two samples of one Gaussian are c d^2 / n apart, c from 0.54 to 0.8 (22.4, 5.5, 1.4).
TEST(Frechet, ShrinksAsSamplesGrow) {
  double before = 1e9;
  for (const int64_t n : {100, 400, 1600}) {
    const double distance =
        frechet_distance(of(normal_rows(n, 64, 11)), of(normal_rows(n, 64, 12)));
    const double c = distance * static_cast<double>(n) / (64 * 64);
    EXPECT_LT(distance, before);
    EXPECT_GT(c, 0.5);
    EXPECT_LT(c, 0.9);
    before = distance;
  }
}

TEST(Frechet, GrowsWithTheShiftOfTheMeanAlone) {
  const at::Tensor x = mixed_rows(200, 8, 1);
  EXPECT_NEAR(frechet_distance(of(x), of(x + 0.25)), 8 * 0.0625, 1e-8);
}

TEST(Frechet, OtherDimensionsAreRefused) {
  const std::string message = error_of(
      Code::kUsage, [] { frechet_distance(of(normal_rows(9, 3, 1)), of(normal_rows(9, 4, 1))); });
  EXPECT_TRUE(contains(message, "3 numbers") && contains(message, "4")) << message;
}

}  // namespace
}  // namespace lf
