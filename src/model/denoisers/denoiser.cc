#include "model/denoisers/denoiser.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/exp.h>

#include <cmath>

#include "base/error.h"

namespace lf {

at::Tensor sinusoid(const at::Tensor& values, int64_t width, Sinusoid kind) {
  const int64_t half = width / 2;
  const int64_t spread = kind == Sinusoid::kCosineFirst ? half : std::max<int64_t>(1, half - 1);
  const at::Tensor frequencies = at::exp(at::arange(half, values.options().dtype(at::kFloat)) *
                                         (-std::log(10000.0) / static_cast<double>(spread)));
  const at::Tensor angles = values.to(at::kFloat).unsqueeze(-1) * frequencies;
  return kind == Sinusoid::kCosineFirst ? at::cat({angles.cos(), angles.sin()}, -1)
                                        : at::cat({angles.sin(), angles.cos()}, -1);
}

// The embedding of a text: the mean of its tokens that are not padding.
static at::Tensor pooled(const at::Tensor& text) {
  if (text.dim() == 2) return text;
  const at::Tensor tokens = (text != 0).any(-1).sum(1, true).clamp_min(1);
  return text.sum(1) / tokens;
}

ConditionEmbedding::ConditionEmbedding(const Scope& scope, const DenoiserShape& shape,
                                       int64_t width) {
  if (shape.classes > 0) {
    classes = scope.weight("classes.weight", {shape.classes + 1, width}, Init::kNormal);
  }
  if (shape.text_width > 0) text.emplace(scope / "text", shape.text_width, width);
}

at::Tensor ConditionEmbedding::operator()(const at::Tensor& level_BTE,
                                          const NoisyClips& clips) const {
  at::Tensor e = level_BTE;
  if (classes.defined()) {
    const int64_t none = classes.size(0) - 1;
    e = e + (clips.labels_B.defined()
                 ? at::embedding(classes, clips.labels_B.masked_fill(clips.labels_B < 0, none))
                       .unsqueeze(1)
                 : classes[none]);
  }
  if (text) e = e + (clips.text.defined() ? (*text)(pooled(clips.text)).unsqueeze(1) : text->bias);
  return e;
}

at::Tensor errors_of(const DiffusionConfig& config, const at::Tensor& difference) {
  return config.error() == DiffusionConfig::L1 ? difference.abs() : difference.square();
}

at::Tensor dropped(const at::Tensor& images, double rate, const Clips& keys, uint32_t layer) {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const int64_t frames = images.size(0) / keys.size();
  const at::Tensor kept =
      keyed_uniform(keys, Purpose::kDropout, layer, {frames, height, width, channels}) >= rate;
  return images * frames_as_images(kept).to(images.scalar_type()).div_(1 - rate);
}

void check_levels(const ClipShape& shape, size_t levels, const char* option) {
  const int factor = 1 << (levels - 1);
  if (shape.height % factor == 0 && shape.width % factor == 0) return;
  fail(Code::kUsage, option, " has ", levels, " levels, which need height and width divisible by ",
       factor, "; clips are ", shape.height, "x", shape.width);
}

}  // namespace lf
