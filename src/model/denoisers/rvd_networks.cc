#include "model/denoisers/rvd_networks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

#include "kernels/convolution.h"

namespace lf {
namespace {

constexpr double kLeak = 0.2;
constexpr int64_t kGroups = 8, kHeads = 4, kHeadWidth = 16;

// The largest number of groups up to 8 that divides the channels.
int64_t groups_of(int64_t channels) {
  int64_t groups = kGroups;
  while (channels % groups != 0) --groups;
  return groups;
}

void add_upsample(const Scope& scope, int64_t in, int64_t out, Tensors& weights, Tensors& biases) {
  weights.push_back(scope.weight("weight", {in, out, 4, 4}, Init::kFanIn, in * 4));
  biases.push_back(scope.weight("bias", {out}, Init::kFanIn, in * 4));
}

// convolution - norm - leaky ReLU
at::Tensor layer(const Conv2d& conv, const GroupNorm& norm, const at::Tensor& x) {
  return at::leaky_relu(norm(conv(x)), kLeak);
}

at::Tensor upsampled(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::conv_transpose2d(x, weight, bias, 2, 1);
}

}  // namespace

LeakyBlock::LeakyBlock(const Scope& scope, int64_t in, int64_t out, int64_t level_width,
                       bool recompute)
    : conv1_(scope / "conv1", in, out, 3),
      conv2_(scope / "conv2", out, out, 3),
      norm1_(scope / "norm1", out, groups_of(out)),
      norm2_(scope / "norm2", out, groups_of(out)),
      recompute_(recompute) {
  if (level_width > 0) level_.emplace(scope / "level", level_width, out);
  if (in != out) skip_.emplace(scope / "skip", in, out, 1);
  weights_ = scope.weights();
}

at::Tensor LeakyBlock::run(const at::Tensor& x, const at::Tensor& level_NE) const {
  at::Tensor h = layer(conv1_, norm1_, x);
  if (level_) h = h + (*level_)(level_NE).unsqueeze(-1).unsqueeze(-1);
  return (skip_ ? (*skip_)(x) : x) + layer(conv2_, norm2_, h);
}

at::Tensor LeakyBlock::operator()(const at::Tensor& x, const at::Tensor& level_NE) const {
  if (!recompute_) return run(x, level_NE);
  Tensors inputs = {x};
  if (level_) inputs.push_back(level_NE);
  const auto whole = [this](const Tensors& given) {
    return Tensors{run(given[0], given.size() > 1 ? given[1] : at::Tensor())};
  };
  return lf::recompute(whole, inputs, weights_)[0];
}

ConvGru::ConvGru(const Scope& scope, int64_t channels)
    : input(scope / "input", channels, 3 * channels, 3),
      state_gates(scope.weight("state_gates", {2 * channels, channels, 3, 3}, Init::kFanIn)),
      state_content(scope.weight("state_content", {channels, channels, 3, 3}, Init::kFanIn)) {}

at::Tensor ConvGru::operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                               at::Tensor& state) const {
  const int64_t rows = images.size(0) / frames, channels = images.size(1);
  // For all steps at once: it does not depend on the states.
  const at::Tensor from_input = input(images);
  if (!state.defined()) state = at::zeros_like(images.slice(0, 0, rows));
  Tensors states;
  for (int64_t t = 0; t < frames; ++t) {
    if (back_frames > 0 && t > 0 && t % back_frames == 0) state = state.detach();
    const at::Tensor now = from_input.slice(0, t * rows, (t + 1) * rows);
    const at::Tensor gates = at::sigmoid(now.slice(1, 0, 2 * channels) +
                                         convolution(input.kernels, state, state_gates, {}));
    const at::Tensor reset = gates.slice(1, 0, channels), update = gates.slice(1, channels);
    const at::Tensor content = at::tanh(
        now.slice(1, 2 * channels) + convolution(input.kernels, reset * state, state_content, {}));
    state = state + update * (content - state);
    states.push_back(state);
  }
  return at::cat(states);
}

RecurrentLevels::RecurrentLevels(const Scope& scope, int64_t channels,
                                 const std::vector<int64_t>& widths, bool recompute) {
  int64_t in = channels;
  for (size_t i = 0; i < widths.size(); ++i) {
    const Scope here = scope / std::to_string(i);
    blocks.emplace_back(here / "block", in, widths[i], 0, recompute);
    units.emplace_back(here / "unit", widths[i]);
    if (i + 1 < widths.size()) downsample.emplace_back(here / "half", widths[i], widths[i], 3, 2);
    in = widths[i];
  }
}

Tensors RecurrentLevels::operator()(const at::Tensor& images, int64_t frames, int64_t back_frames,
                                    RecurrentState& state) const {
  state.resize(blocks.size());
  Tensors states;
  at::Tensor h = images;
  for (size_t i = 0; i < blocks.size(); ++i) {
    h = units[i](blocks[i](h), frames, back_frames, state[i]);
    states.push_back(h);
    if (i < downsample.size()) h = downsample[i](h);
  }
  return states;
}

MeanDecoder::MeanDecoder(const Scope& scope, int64_t channels, const std::vector<int64_t>& widths,
                         bool recompute)
    : last(scope / "last", widths.front(), channels, 3) {
  for (size_t i = widths.size(); i-- > 0;) {
    const Scope here = scope / std::to_string(i);
    const bool lowest = i + 1 == widths.size();
    blocks.emplace_back(here / "block", lowest ? widths[i] : 2 * widths[i], widths[i], 0,
                        recompute);
    if (i > 0) add_upsample(here / "double", widths[i], widths[i - 1], upsample, upsample_bias);
  }
}

at::Tensor MeanDecoder::operator()(const Tensors& states) const {
  at::Tensor h = blocks[0](states.back());
  for (size_t i = 1; i < blocks.size(); ++i) {
    h = upsampled(h, upsample[i - 1], upsample_bias[i - 1]);
    h = blocks[i](at::cat({h, states[states.size() - 1 - i]}, 1));
  }
  return last(h);
}

ContextDenoiser::ContextDenoiser(const Scope& scope, int64_t channels,
                                 const std::vector<int64_t>& widths, bool recompute)
    : width_(widths.front()),
      level1_(scope / "level" / "first", width_, 4 * width_),
      level2_(scope / "level" / "second", 4 * width_, width_),
      middle1_(scope / "middle" / "0", widths.back(), widths.back(), width_, recompute),
      middle2_(scope / "middle" / "1", widths.back(), widths.back(), width_, recompute),
      middle_attention_(scope / "middle" / "attention", widths.back(), 1),
      last_block_(scope / "last" / "block", width_, width_, 0, recompute),
      last_(scope / "last" / "conv", width_, channels, 1, 1, Init::kZeros) {
  int64_t in = channels;
  const size_t levels = widths.size();
  const auto level = [&](const Scope& here, int64_t from, int64_t to, int64_t between) {
    return Level{LeakyBlock(here / "0", from, to, width_, recompute),
                 LeakyBlock(here / "1", between, to, width_, recompute),
                 LinearAttention(here / "attention", to, kHeads, kHeadWidth)};
  };
  for (size_t i = 0; i < levels; ++i) {
    const Scope here = scope / "down" / std::to_string(i);
    down_.push_back(level(here, in, widths[i], 2 * widths[i]));
    if (i + 1 < levels) downsample_.emplace_back(here / "half", widths[i], widths[i], 3, 2);
    in = widths[i];
  }
  for (size_t i = levels; i-- > 0;) {
    const Scope here = scope / "up" / std::to_string(i);
    const int64_t out = i > 0 ? widths[i - 1] : width_;
    up_.push_back(level(here, 2 * widths[i], out, out));
    if (i > 0) add_upsample(here / "double", out, out, upsample_, upsample_bias_);
  }
}

at::Tensor ContextDenoiser::operator()(const at::Tensor& images, const at::Tensor& signal_N,
                                       const Tensors& context) const {
  const at::Tensor level =
      level2_(at::gelu(level1_(sinusoid(signal_N, width_, Sinusoid::kSineFirst))));
  Tensors kept;
  at::Tensor h = images;
  for (size_t i = 0; i < down_.size(); ++i) {
    h = down_[i].first(h, level);
    h = down_[i].attention(down_[i].second(at::cat({h, context[i]}, 1), level));
    kept.push_back(h);
    if (i < downsample_.size()) h = downsample_[i](h);
  }
  h = middle2_(middle_attention_.in_images(middle1_(h, level)), level);
  for (size_t i = 0; i < up_.size(); ++i) {
    h = up_[i].first(at::cat({h, kept[kept.size() - 1 - i]}, 1), level);
    h = up_[i].attention(up_[i].second(h, level));
    if (i < upsample_.size()) h = upsampled(h, upsample_[i], upsample_bias_[i]);
  }
  return last_(last_block_(h));
}

}  // namespace lf
