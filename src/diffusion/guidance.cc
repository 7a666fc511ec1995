#include "diffusion/guidance.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/quantile.h>

#include <utility>

#include "base/error.h"

namespace lf {

at::Tensor guided(const at::Tensor& with, const at::Tensor& without, double scale) {
  return without + scale * (with - without);
}

at::Tensor within_range(const at::Tensor& image, const SamplerConfig& config) {
  switch (config.threshold()) {
    case SamplerConfig::NONE:
      return image;
    case SamplerConfig::STATIC:
      return image.clamp(-1, 1);
    case SamplerConfig::DYNAMIC: {
      const at::Tensor largest = at::quantile(image.flatten(1).abs(), config.quantile(), 1);
      std::vector<int64_t> sizes(static_cast<size_t>(image.dim()), 1);
      sizes[0] = image.size(0);
      const at::Tensor bound = largest.clamp_min(1).reshape(sizes);
      return at::clamp(image, -bound, bound) / bound;
    }
  }
  LF_CHECK(false, "no such threshold");
}

at::Tensor towards_given(const at::Tensor& image, const at::Tensor& made, const at::Tensor& given,
                         const at::Tensor& z, double alpha, double weight) {
  const at::Tensor error = (given - made).square().sum();
  z.mutable_grad().reset();
  error.backward({}, /*retain_graph=*/std::nullopt, /*create_graph=*/false, {{z}});
  const at::Tensor gradient = std::exchange(z.mutable_grad(), at::Tensor());
  return (image - weight * alpha / 2 * gradient).detach();
}

}  // namespace lf
