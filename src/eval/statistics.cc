#include "eval/statistics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "run/arrays.h"

namespace lf {

at::Tensor load_features(const std::string& path) {
  const at::Tensor array = load_npy(path);
  if (array.dim() != 2) {
    fail(Code::kData, printable(path), " has ", array.dim(),
         " dimensions, expected features [samples, values]");
  }
  const at::Tensor features = array.to(at::kDouble);
  if (!at::isfinite(features).all().item<bool>()) {
    fail(Code::kData, printable(path), " holds values that are not finite; features must be");
  }
  return features;
}

Statistics load_statistics(const std::string& path) {
  const std::string name = printable(path);
  const TensorsByName arrays = load_npz(path);
  const auto mu = arrays.find("mu"), sigma = arrays.find("sigma"), n = arrays.find("n");
  if (mu == arrays.end() || sigma == arrays.end()) {
    fail(Code::kData, name, " has no arrays 'mu' and 'sigma', expected statistics as pytorch-fid ",
         "--save-stats writes them");
  }
  const at::Tensor mean = mu->second.to(at::kDouble), covariance = sigma->second.to(at::kDouble);
  if (mean.dim() != 1 || covariance.dim() != 2 || covariance.size(0) != mean.size(0) ||
      covariance.size(1) != mean.size(0)) {
    fail(Code::kData, name, ": expected mu of d values and sigma of d x d");
  }
  const double asymmetry = (covariance - covariance.t()).abs().max().item<double>();
  // Written so that NaN is refused too.
  if (!at::isfinite(mean).all().item<bool>() ||
      !(asymmetry <= 1e-6 * covariance.abs().max().item<double>())) {
    fail(Code::kData, name, ": mu and sigma are not a finite mean and a symmetric covariance");
  }
  Statistics out;
  if (n != arrays.end()) out.n = n->second.max().to(at::kLong).item<int64_t>();
  out.moments = Moments(std::max<int64_t>(out.n, 2), mean, covariance);
  return out;
}

void save_statistics(const Moments& moments, const std::string& path) {
  save_npz({{"mu", moments.mean()},
            {"n", at::scalar_tensor(moments.count(), at::kLong)},
            {"sigma", moments.covariance()}},
           path);
}

}  // namespace lf
