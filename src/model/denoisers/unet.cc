#include "model/denoisers/unet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numbers>

#include "base/error.h"
#include "kernels/convolution.h"
#include "kernels/norm_silu.h"
#include "model/denoisers/relative_attention.h"

namespace lf {
namespace {

// The frames of a clip as one image, stacked vertically: for attention over all of them jointly.
at::Tensor as_one_image(const at::Tensor& images, int64_t frames) {
  return images_as_frames(images, frames).flatten(1, 2).permute({0, 3, 1, 2});
}

at::Tensor as_single_images(const at::Tensor& image, int64_t frames) {
  return image.permute({0, 2, 3, 1}).unflatten(1, {frames, -1}).flatten(0, 1).permute({0, 3, 1, 2});
}

double epsilon_of(const UnetConfig& config) { return config.first_ddpm() ? 1e-6 : 1e-5; }

// A convolution within images or, if `volume`, over space and time.
struct Conv {
  Conv(const Scope& scope, bool volume_, int64_t in, int64_t out, int64_t stride = 1,
       Init init = Init::kFanIn)
      : conv(scope, volume_ ? 3 * in : in, out, 3, stride, init), volume(volume_) {}
  at::Tensor operator()(const at::Tensor& x, int64_t frames) const {
    if (conv.stride == 1) return convolution(conv.kernels, x, conv.weight, conv.bias, frames);
    return conv(volume ? with_neighbours(x, frames) : x);
  }
  // Padded right and below only.
  at::Tensor halved(const at::Tensor& x, int64_t frames) const {
    return at::conv2d(at::pad(volume ? with_neighbours(x, frames) : x, {0, 1, 0, 1}), conv.weight,
                      conv.bias, conv.stride);
  }
  Conv2d conv;
  bool volume;
};

// norm - SiLU; of a volume, the norm is over all frames of a clip.
struct Norm {
  Norm(const Scope& scope, const UnetConfig& config, bool volume_, int64_t channels)
      : norm(scope, channels, config.norm_groups(), epsilon_of(config)), volume(volume_) {}

  // `scale_shift` [N, 2C]: scale and shift of each image; undefined: none.
  at::Tensor operator()(const at::Tensor& x, int64_t frames, const at::Tensor& scale_shift) const {
    const at::Tensor rows =
        volume ? as_rows(x).unflatten(0, {-1, frames}).flatten(1, 2) : as_rows(x);
    at::Tensor gain = norm.weight.unsqueeze(0), shift = norm.bias.unsqueeze(0);
    const NormKind kind{norm.groups, norm.epsilon, /*silu=*/!(volume && scale_shift.defined())};
    if (!scale_shift.defined())
      return as_frames(norm_silu(norm.kernels, rows, kind, gain, shift), x);
    const std::vector<at::Tensor> by_level = scale_shift.to(at::kFloat).chunk(2, 1);
    const at::Tensor scale = 1 + by_level[0];
    if (!volume) {
      shift = at::addcmul(by_level[1], shift, scale);
      return as_frames(norm_silu(norm.kernels, rows, kind, gain * scale, shift), x);
    }
    // Frames of a clip may have different noise levels.
    const auto over_pixels = [](const at::Tensor& one) { return one.unsqueeze(-1).unsqueeze(-1); };
    const at::Tensor h = as_frames(norm_silu(norm.kernels, rows, kind, gain, shift), x);
    return at::silu(h * over_pixels(scale) + over_pixels(by_level[1])).to(x.scalar_type());
  }

  static at::Tensor as_frames(const at::Tensor& rows, const at::Tensor& like) {
    return as_images(rows.reshape({like.size(0), -1, rows.size(2)}), like.size(2));
  }

  GroupNorm norm;
  bool volume;
};

// norm - SiLU - convolution, twice, with a skip connection; the embedding enters before the second
// norm or, with scale_shift, in it.
struct ResidualBlock {
  ResidualBlock(const Scope& scope, const UnetConfig& config, bool volume, int64_t in, int64_t out,
                uint32_t layer_)
      : norm1(scope / "norm1", config, volume, in),
        conv1(scope / "conv1", volume, in, out),
        level(scope / "level", 4 * config.width(), config.scale_shift() ? 2 * out : out),
        norm2(scope / "norm2", config, volume, out),
        conv2(scope / "conv2", volume, out, out, 1, Init::kZeros),
        scale_shift(config.scale_shift()),
        scaled_sum(config.scaled_sums()),
        dropout(config.dropout()),
        layer(layer_) {
    if (in != out) skip.emplace(scope / "skip", in, out, 1);
  }

  at::Tensor operator()(const at::Tensor& x, const BlockCall& call) const {
    const int64_t frames = call.frames.frames;
    at::Tensor h = conv1(norm1(x, frames, {}), frames);
    const at::Tensor conditioning = level(call.embedding);
    h = scale_shift
            ? norm2(h, frames, conditioning)
            : norm2(h + conditioning.to(h.scalar_type()).unsqueeze(-1).unsqueeze(-1), frames, {});
    if (call.keys && dropout > 0) h = dropped(h, dropout, *call.keys, layer);
    h = (skip ? (*skip)(x) : x) + conv2(h, frames);
    return scaled_sum ? h * (1 / std::numbers::sqrt2) : h;
  }

  Norm norm1;
  Conv conv1;
  FrameLinear level;
  Norm norm2;
  Conv conv2;
  std::optional<Conv2d> skip;
  bool scale_shift, scaled_sum;
  double dropout;
  uint32_t layer;
};

// Attention within images, to the text and, with several frames, over them.
struct AttentionPair {
  AttentionPair(const Scope& scope, const UnetConfig& config, const DenoiserShape& shape,
                int64_t channels)
      : spatial(scope / "spatial", channels,
                config.head_width() > 0 ? channels / config.head_width() : config.heads(),
                config.norm_groups(), epsilon_of(config)) {
    if (shape.text_tokens) {
      text.emplace(scope / "text", channels, shape.text_width, config.heads(),
                   channels / config.heads());
    }
    if (shape.clip.frames == 1) return;
    switch (config.temporal()) {
      case UnetConfig::AFTER:
        temporal.emplace(scope / "temporal", channels, config.heads(), config.norm_groups(),
                         epsilon_of(config));
        break;
      case UnetConfig::RELATIVE:
        relative.emplace(scope / "temporal", channels, 4 * config.width(), config.heads());
        break;
      case UnetConfig::VOLUME:
        volume = true;
        break;
    }
  }
  at::Tensor operator()(const at::Tensor& x, const BlockCall& call) const {
    const int64_t frames = call.frames.frames;
    at::Tensor h = volume ? as_single_images(spatial.in_images(as_one_image(x, frames)), frames)
                          : spatial.in_images(relative ? (*relative)(x, call) : x);
    if (text) h = text->in_images(h, call.text);
    return temporal ? temporal->over_frames(h, call.frames) : h;
  }
  ResidualAttention spatial;
  std::optional<CrossAttention> text;
  std::optional<ResidualAttention> temporal;
  std::optional<RelativeAttention> relative;
  bool volume = false;
};

struct Stage {
  ResidualBlock block;
  std::optional<AttentionPair> attention;
  Tensors weights;  // of both
  at::Tensor operator()(const at::Tensor& x, const BlockCall& call) const {
    const at::Tensor h = block(x, call);
    return attention ? (*attention)(h, call) : h;
  }
};

struct Level {
  std::vector<Stage> stages;
  std::optional<Conv> resample;  // to the next level
};

class Unet : public Denoiser {
 public:
  Unet(const UnetConfig& config, const DenoiserShape& shape, const Scope& scope)
      : config_(config),
        shape_(shape),
        widths_(widths_of(config)),
        volume_(shape.clip.frames > 1 && config.temporal() == UnetConfig::VOLUME),
        level1_(scope / "level" / "first", config.width(), 4 * config.width()),
        level2_(scope / "level" / "second", 4 * config.width(), 4 * config.width()),
        first_(scope / "first", volume_, shape.clip.channels + (config.mark_observed() ? 1 : 0),
               config.width()),
        last_norm_(scope / "last" / "norm", config, volume_, widths_.front()),
        last_(scope / "last" / "conv", volume_, widths_.front(), shape.out_channels, 1,
              Init::kZeros),
        conditioning_(scope, shape, 4 * config.width()) {
    check_levels(shape.clip, widths_.size(), "model.unet.multipliers");
    if (shape.clip.frames > 1 && config.temporal() == UnetConfig::AFTER &&
        config.temporal_position()) {
      distances_.emplace(scope / "distances", config.heads());
      position_.emplace(scope / "place", config.width(), 4 * config.width(), true, Init::kZeros);
    }
    build(scope);
  }

  at::Tensor operator()(const NoisyClips& clips) const override {
    BlockCall call{embedding(clips), frame_context(clips, distances_, {}), {}, text_context(clips)};
    if (clips.keys != nullptr) call.keys = *clips.keys;
    if (config_.temporal() == UnetConfig::RELATIVE && shape_.clip.frames > 1) {
      call.frames.offsets = frame_offsets(clips.index_BT);
    }
    const int64_t frames = clips.frames();
    at::Tensor h = first_(frames_as_images(marked(clips)), frames);
    std::vector<at::Tensor> kept = {h};
    for (const Level& level : down_) {
      for (const Stage& stage : level.stages) kept.push_back(h = run(stage, h, call));
      if (!level.resample) continue;
      h = config_.first_ddpm() ? level.resample->halved(h, frames) : (*level.resample)(h, frames);
      kept.push_back(h);
    }
    for (const Stage& stage : middle_) h = run(stage, h, call);
    for (const Level& level : up_) {
      for (const Stage& stage : level.stages) {
        h = run(stage, at::cat({h, kept.back()}, 1), call);
        kept.pop_back();
      }
      if (level.resample) h = (*level.resample)(twice_as_large(h), frames);
    }
    return images_as_frames(last_(last_norm_(h, frames, {}), frames), frames);
  }

 private:
  static std::vector<int64_t> widths_of(const UnetConfig& config) {
    std::vector<int64_t> widths(config.multipliers().begin(), config.multipliers().end());
    if (widths.empty()) widths = {1, 2, 2, 2};
    for (int64_t& width : widths) width *= config.width();
    return widths;
  }

  // The noisy clips, with mark_observed plus a channel that is 1 in observed frames.
  at::Tensor marked(const NoisyClips& clips) const {
    const at::Tensor& z = clips.z_BTHWC;
    if (!config_.mark_observed()) return z;
    std::vector<int64_t> shape = z.sizes().vec();
    shape.back() = 1;
    if (!clips.role_BT.defined()) return at::cat({z, at::zeros(shape, z.options())}, -1);
    const at::Tensor observed =
        (clips.role_BT == static_cast<uint8_t>(FrameRole::kObserved)).to(z.scalar_type());
    return at::cat({z, observed.reshape({-1, shape[1], 1, 1, 1}).expand(shape)}, -1);
  }

  at::Tensor run(const Stage& stage, const at::Tensor& x, const BlockCall& call) const {
    return run_block([&stage](const at::Tensor& in, const BlockCall& c) { return stage(in, c); },
                     stage.weights, x, call, shape_.recompute);
  }

  at::Tensor embedding(const NoisyClips& clips) const {
    const at::Tensor signal =
        sinusoid(clips.signal_BT, config_.width(),
                 config_.first_ddpm() ? Sinusoid::kSineFirst : Sinusoid::kCosineFirst);
    at::Tensor e = conditioning_(level2_(at::silu(level1_(signal))), clips);  // [B, T, width]
    if (position_) {
      e = e + (*position_)(sinusoid(clips.index_BT, config_.width(), Sinusoid::kCosineFirst));
    }
    return at::silu(e).flatten(0, 1);
  }

  Stage stage(const Scope& scope, int64_t in, int64_t out, bool attends) {
    Stage made{ResidualBlock(scope / "block", config_, volume_, in, out, layers_++), {}, {}};
    if (attends) {
      if (out % config_.heads() != 0) {
        fail(Code::kUsage, "model.unet.heads is ", config_.heads(), ", which does not divide the ",
             out, " channels of an attention; choose other heads or another width");
      }
      if (config_.head_width() > 0 && out % config_.head_width() != 0) {
        fail(Code::kUsage, "model.unet.head_width is ", config_.head_width(),
             ", which does not divide the ", out,
             " channels of an attention; choose another head_width or another width");
      }
      made.attention.emplace(scope / "attention", config_, shape_, out);
    }
    made.weights = scope.weights();
    return made;
  }

  bool attends_at(size_t level) const {
    const int height = shape_.clip.height >> level;
    const auto& heights = config_.attention();
    return heights.empty() ? height == 16
                           : std::find(heights.begin(), heights.end(), height) != heights.end();
  }

  void build(const Scope& scope) {
    int64_t width = config_.width();
    std::vector<int64_t> kept = {width};
    for (size_t i = 0; i < widths_.size(); ++i) {
      const Scope here = scope / "down" / std::to_string(i);
      Level& level = down_.emplace_back();
      for (int k = 0; k < config_.blocks(); ++k) {
        level.stages.push_back(stage(here / std::to_string(k), width, widths_[i], attends_at(i)));
        kept.push_back(width = widths_[i]);
      }
      if (i + 1 < widths_.size()) {
        level.resample.emplace(here / "resample", volume_, width, width, 2);
        kept.push_back(width);
      }
    }
    middle_.push_back(stage(scope / "middle" / "0", width, width, true));
    middle_.push_back(stage(scope / "middle" / "1", width, width, false));
    for (size_t i = widths_.size(); i-- > 0;) {
      const Scope here = scope / "up" / std::to_string(i);
      Level& level = up_.emplace_back();
      for (int k = 0; k <= config_.blocks(); ++k) {
        level.stages.push_back(
            stage(here / std::to_string(k), width + kept.back(), widths_[i], attends_at(i)));
        kept.pop_back();
        width = widths_[i];
      }
      if (i > 0) level.resample.emplace(here / "resample", volume_, width, width);
    }
    LF_CHECK(kept.empty(), "skip connections left over");
  }

  UnetConfig config_;
  DenoiserShape shape_;
  std::vector<int64_t> widths_;
  bool volume_;
  uint32_t layers_ = 0;
  FrameLinear level1_, level2_;
  Conv first_;
  Norm last_norm_;
  Conv last_;
  ConditionEmbedding conditioning_;
  std::optional<DistanceBias> distances_;
  std::optional<FrameLinear> position_;
  std::vector<Level> down_, up_;
  std::vector<Stage> middle_;
};

}  // namespace

std::unique_ptr<Denoiser> make_unet(const UnetConfig& config, const DenoiserShape& shape,
                                    const Scope& scope) {
  return std::make_unique<Unet>(config, shape, scope);
}

}  // namespace lf
