#include "eval/frechet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace lf {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

struct Trace {
  double value = 0;  // of the root of S1 S2
  double error = 0;  // that rounding may have caused, at most
};

// The lower triangle of L^T S L, without the products with the zeros of the lower triangular L.
at::Tensor half_of_product(const at::Tensor& lower, const at::Tensor& s) {
  constexpr int64_t kStrip = 256;
  const int64_t n = s.size(0);
  at::Tensor right = at::zeros_like(s), out = at::zeros_like(s);
  for (int64_t from = 0; from < n; from += kStrip) {
    const int64_t to = std::min(n, from + kStrip);
    right.slice(1, from, to).addmm_(s.slice(1, from), lower.slice(0, from).slice(1, from, to));
  }
  for (int64_t from = 0; from < n; from += kStrip) {
    const int64_t to = std::min(n, from + kStrip);
    out.slice(0, from, to)
        .slice(1, 0, to)
        .addmm_(lower.slice(0, from).slice(1, from, to).t(), right.slice(0, from).slice(1, 0, to));
  }
  return out;
}

// By the eigenvalues of L^T S2 L, S1 = L L^T: quick, but an eigenvalue is known to a rounding error
// of the largest only, and its root to the root of that. False if S1 is not positive definite.
bool trace_by_eigenvalues(const at::Tensor& s1, const at::Tensor& s2, Trace* trace) {
  const auto [lower, info] = at::linalg_cholesky_ex(s1);
  if (info.item<int64_t>() != 0) return false;
  const at::Tensor values = at::linalg_eigvalsh(half_of_product(lower, s2), "L").clamp_min(0);
  const double noise = 8 * kEpsilon * values.max().item<double>();
  const at::Tensor roots = values.sqrt();
  trace->value = roots.sum().item<double>();
  trace->error = ((values + noise).sqrt() - roots).sum().item<double>();
  return true;
}

// F with F F^T = S, of as many columns as S has rank.
at::Tensor factor(const at::Tensor& s) {
  const auto [values, vectors] = at::linalg_eigh(s);
  const double floor = static_cast<double>(s.size(0)) * kEpsilon * values[-1].item<double>();
  const auto rank = (values > floor).sum().item<int64_t>();
  const int64_t from = s.size(0) - rank;
  return vectors.slice(1, from) * values.slice(0, from).sqrt();
}

// By the singular values of F1^T F2: their sum is the trace, and each is known to a rounding error
// of the largest.
double trace_by_singular_values(const at::Tensor& s1, const at::Tensor& s2) {
  const at::Tensor f1 = factor(s1), f2 = factor(s2);
  if (f1.size(1) == 0 || f2.size(1) == 0) return 0;
  return at::linalg_svdvals(at::matmul(f1.t(), f2)).sum().item<double>();
}

}  // namespace

double frechet_distance(const Moments& a, const Moments& b) {
  if (a.dim() != b.dim()) {
    fail(Code::kUsage, "one set has features of ", a.dim(), " numbers, the other of ", b.dim(),
         "; a Frechet distance needs the same extractor and layer for both");
  }
  const at::Tensor s1 = a.covariance(), s2 = b.covariance();
  const at::Tensor delta = a.mean() - b.mean();
  const double mean_and_traces =
      delta.dot(delta).item<double>() + s1.trace().item<double>() + s2.trace().item<double>();
  constexpr double kRelative = 1e-7;  // the accuracy asked for; the bound is a wide one
  Trace trace;
  if (trace_by_eigenvalues(s1, s2, &trace) &&
      2 * trace.error < kRelative * (mean_and_traces - 2 * trace.value)) {
    return mean_and_traces - 2 * trace.value;
  }
  return std::max(0.0, mean_and_traces - 2 * trace_by_singular_values(s1, s2));
}

}  // namespace lf
