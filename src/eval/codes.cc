#include "eval/codes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace lf {

CodeCounts count_codes(const at::Tensor& codes, int64_t codebook) {
  if (codes.numel() == 0 || at::isFloatingType(codes.scalar_type())) {
    fail(Code::kData, "codes are integers, at least one an image; these are ",
         codes.numel() == 0 ? "empty" : "fractions");
  }
  const at::Tensor flat = codes.flatten().to(at::kLong);
  const auto least = flat.min().item<int64_t>(), most = flat.max().item<int64_t>();
  if (least < 0 || most >= codebook) {
    fail(Code::kData, "codes run from ", least, " to ", most, ", expected 0 to ", codebook - 1,
         " for a codebook of ", codebook);
  }
  return {at::bincount(flat, {}, codebook), codes.size(0)};
}

CodeUse code_use(const CodeCounts& codes) {
  const auto all = codes.counts.sum().item<double>();
  const at::Tensor p = codes.counts.to(at::kDouble) / all;
  const double nats = -(p * p.clamp_min(1e-300).log()).sum().item<double>();
  const double codes_per_image = all / static_cast<double>(codes.images);
  return {(codes.counts > 0).to(at::kDouble).mean().item<double>(), std::exp(nats),
          codes_per_image * nats / std::numbers::ln2};
}

}  // namespace lf
