#include "model/denoisers/unet3d.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "base/error.h"
#include "kernels/norm_silu.h"
#include "model/denoisers/attention.h"

namespace lf {
namespace {

// convolution - norm by root mean square over channels - SiLU.
struct Block {
  Block(const Scope& scope, int64_t in, int64_t out)
      : conv(scope / "conv", in, out, 3), gain(scope.weight("norm.weight", {out}, Init::kOnes)) {}

  // `scale_shift` [N, 2C]: of the norm; undefined: none. `added` to the output; undefined: nothing.
  at::Tensor operator()(const at::Tensor& images, const at::Tensor& scale_shift,
                        const at::Tensor& added) const {
    at::Tensor scale = gain.unsqueeze(0), shift = at::zeros_like(scale);
    if (scale_shift.defined()) {
      const std::vector<at::Tensor> by_level = scale_shift.to(at::kFloat).chunk(2, 1);
      scale = gain * (by_level[0] + 1);
      shift = by_level[1];
    }
    const at::Tensor rows = norm_silu(conv.kernels, as_rows(conv(images)), {}, scale, shift,
                                      added.defined() ? as_rows(added) : added);
    return as_images(rows, images.size(2));
  }

  Conv2d conv;
  at::Tensor gain;
};

struct ResnetBlock {
  ResnetBlock(const Scope& scope, int64_t in, int64_t out, int64_t embedding)
      : block1(scope / "block1", in, out), block2(scope / "block2", out, out) {
    if (embedding > 0) level.emplace(scope / "level", embedding, 2 * out);
    if (in != out) skip.emplace(scope / "skip", in, out, 1);
  }
  at::Tensor operator()(const at::Tensor& x, const BlockCall& call) const {
    const at::Tensor scale_shift = level ? (*level)(call.embedding) : at::Tensor();
    return block2(block1(x, scale_shift, {}), {}, skip ? (*skip)(x) : x);
  }
  Block block1, block2;
  std::optional<FrameLinear> level;
  std::optional<Conv2d> skip;
};

// Convolutions of width 4 that halve and double height and width.
struct Resample {
  Resample(const Scope& scope, int64_t channels, bool larger_)
      : weight(scope.weight("weight", {channels, channels, 4, 4}, Init::kFanIn)),
        bias(scope.weight("bias", {channels}, Init::kFanIn, channels * 16)),
        larger(larger_) {}
  at::Tensor operator()(const at::Tensor& x) const {
    if (!larger) return at::conv2d(x, weight, bias, 2, 1);
    // The bias separately: oneDNN is slow at its gradient here (a fifth of backward's time).
    const at::Tensor y = at::conv_transpose2d(x, weight, {}, 2, 1);
    return y + bias.to(y.scalar_type()).view({-1, 1, 1});
  }
  at::Tensor weight, bias;
  bool larger;
};

struct Level {
  ResnetBlock block1, block2;
  LinearAttention spatial;
  std::optional<CrossAttention> text;
  std::optional<FullAttention> temporal;
  Tensors weights;                   // of all of these
  std::optional<Resample> resample;  // to the next level

  at::Tensor operator()(const at::Tensor& x, const BlockCall& call) const {
    at::Tensor h = spatial(block2(block1(x, call), call));
    if (text) h = text->in_images(h, call.text);
    return temporal ? temporal->over_frames(h, call.frames) : h;
  }
};

int64_t spatial_head_width(const Unet3dConfig& config) {
  return config.spatial_head_width() > 0 ? config.spatial_head_width() : config.head_width();
}

class Unet3d : public Denoiser {
 public:
  Unet3d(const Unet3dConfig& config, const DenoiserShape& shape, const Scope& scope)
      : config_(config),
        shape_(shape),
        over_frames_(shape.clip.frames > 1),
        widths_(widths_of(config)),
        level1_(scope / "level" / "first", config.dim(), 4 * config.dim()),
        level2_(scope / "level" / "second", 4 * config.dim(), 4 * config.dim()),
        first_(scope / "first", shape.clip.channels, config.dim(), 7),
        middle1_(scope / "middle" / "block1", widths_.back(), widths_.back(), 4 * config.dim()),
        middle_spatial_(scope / "middle" / "spatial", widths_.back(), config.heads(),
                        spatial_head_width(config)),
        middle2_(scope / "middle" / "block2", widths_.back(), widths_.back(), 4 * config.dim()),
        last_block_(scope / "last" / "block", 2 * config.dim(), config.dim(), 0),
        last_(scope / "last" / "conv", config.dim(), shape.out_channels, 1),
        conditioning_(scope, shape, 4 * config.dim()) {
    check_levels(shape.clip, widths_.size() - 1, "model.unet3d.multipliers");
    if (over_frames_) {
      if (config.temporal_position()) {
        distances_.emplace(scope / "distances", config.heads());
        rotary_.emplace(scope / "rotary", std::min(32, config.head_width()));
      }
      first_temporal_ = temporal(scope / "first", config.dim());
      middle_temporal_ = temporal(scope / "middle", widths_.back());
    }
    middle_text_ = text(scope / "middle", widths_.back());
    build(scope);
  }

  at::Tensor operator()(const NoisyClips& clips) const override {
    const BlockCall call{
        embedding(clips), frame_context(clips, distances_, rotary_), {}, text_context(clips)};
    at::Tensor h = first_(frames_as_images(clips.z_BTHWC));
    if (first_temporal_) h = first_temporal_->over_frames(h, call.frames);
    const at::Tensor beginning = h;
    std::vector<at::Tensor> kept;
    for (const Level& level : down_) {
      kept.push_back(h = run(level, h, call));
      if (level.resample) h = (*level.resample)(h);
    }
    h = middle_spatial_.in_images(middle1_(h, call));
    if (middle_text_) h = middle_text_->in_images(h, call.text);
    if (middle_temporal_) h = middle_temporal_->over_frames(h, call.frames);
    h = middle2_(h, call);
    for (const Level& level : up_) {
      h = run(level, at::cat({h, kept.back()}, 1), call);
      kept.pop_back();
      if (level.resample) h = (*level.resample)(h);
    }
    h = last_block_(at::cat({h, beginning}, 1), call);
    return images_as_frames(last_(h), clips.frames());
  }

 private:
  // Channels of the input and of every level.
  static std::vector<int64_t> widths_of(const Unet3dConfig& config) {
    std::vector<int> multipliers(config.multipliers().begin(), config.multipliers().end());
    if (multipliers.empty()) multipliers = {1, 2, 4, 8};
    std::vector<int64_t> widths = {config.dim()};
    for (const int multiplier : multipliers) widths.push_back(int64_t{config.dim()} * multiplier);
    return widths;
  }

  at::Tensor run(const Level& level, const at::Tensor& x, const BlockCall& call) const {
    return run_block([&level](const at::Tensor& in, const BlockCall& c) { return level(in, c); },
                     level.weights, x, call, shape_.recompute);
  }

  at::Tensor embedding(const NoisyClips& clips) const {
    const at::Tensor signal = sinusoid(clips.signal_BT, config_.dim(), Sinusoid::kSineFirst);
    return at::silu(conditioning_(level2_(at::gelu(level1_(signal))), clips)).flatten(0, 1);
  }

  std::optional<FullAttention> temporal(const Scope& scope, int64_t channels) const {
    if (!over_frames_) return {};
    return FullAttention(scope / "temporal", channels, config_.heads(), config_.head_width());
  }

  std::optional<CrossAttention> text(const Scope& scope, int64_t channels) const {
    if (!shape_.text_tokens) return {};
    return CrossAttention(scope / "text", channels, shape_.text_width, config_.heads(),
                          spatial_head_width(config_));
  }

  Level level(const Scope& scope, int64_t in, int64_t out) const {
    const int64_t embedding = 4 * int64_t{config_.dim()};
    Level made{
        ResnetBlock(scope / "block1", in, out, embedding),
        ResnetBlock(scope / "block2", out, out, embedding),
        LinearAttention(scope / "spatial", out, config_.heads(), spatial_head_width(config_)),
        text(scope, out),
        temporal(scope, out),
        {},
        {}};
    made.weights = scope.weights();
    return made;
  }

  void build(const Scope& scope) {
    const size_t levels = widths_.size() - 1;
    for (size_t i = 0; i < levels; ++i) {
      const Scope here = scope / "down" / std::to_string(i);
      down_.push_back(level(here, widths_[i], widths_[i + 1]));
      if (i + 1 < levels) down_.back().resample.emplace(here / "resample", widths_[i + 1], false);
    }
    for (size_t i = levels; i-- > 0;) {
      const Scope here = scope / "up" / std::to_string(i);
      up_.push_back(level(here, 2 * widths_[i + 1], widths_[i]));
      if (i > 0) up_.back().resample.emplace(here / "resample", widths_[i], true);
    }
  }

  Unet3dConfig config_;
  DenoiserShape shape_;
  bool over_frames_;
  std::vector<int64_t> widths_;
  FrameLinear level1_, level2_;
  Conv2d first_;
  std::optional<FullAttention> first_temporal_;
  ResnetBlock middle1_;
  FullAttention middle_spatial_;
  std::optional<CrossAttention> middle_text_;
  std::optional<FullAttention> middle_temporal_;
  ResnetBlock middle2_, last_block_;
  Conv2d last_;
  ConditionEmbedding conditioning_;
  std::optional<DistanceBias> distances_;
  std::optional<Rotary> rotary_;
  std::vector<Level> down_, up_;
};

}  // namespace

std::unique_ptr<Denoiser> make_unet3d(const Unet3dConfig& config, const DenoiserShape& shape,
                                      const Scope& scope) {
  return std::make_unique<Unet3d>(config, shape, scope);
}

}  // namespace lf
