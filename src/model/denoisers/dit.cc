#include "model/denoisers/dit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/silu.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "model/denoisers/attention.h"

namespace lf {
namespace {

constexpr int64_t kSignalWidth = 256;  // of the sinusoids of the noise level

// Rows [N, tokens, width] after a norm without weights, scaled and shifted per image.
at::Tensor modulated(const at::Tensor& rows, const at::Tensor& shift, const at::Tensor& scale) {
  const at::Tensor unit = at::layer_norm(rows, {rows.size(-1)}, {}, {}, 1e-6);
  return at::addcmul(shift.unsqueeze(1), unit, (1 + scale).unsqueeze(1));
}

// Attention, within frames or over them, and two linear maps, each on a gated residual path; within
// frames attention to the text between them.
struct TransformerBlock {
  TransformerBlock(const Scope& scope, const DitConfig& config, const DenoiserShape& shape,
                   bool over_frames_)
      : modulation(scope / "say", config.width(), 6 * int64_t{config.width()}, true, Init::kZeros),
        qkv(scope / "qkv", config.width(), 3 * int64_t{config.width()}),
        out(scope / "out", config.width(), config.width()),
        wide(scope / "wide", config.width(), int64_t{config.expansion()} * config.width()),
        narrow(scope / "narrow", int64_t{config.expansion()} * config.width(), config.width()),
        heads(config.heads()),
        over_frames(over_frames_) {
    if (shape.text_tokens && !over_frames) {
      text.emplace(scope / "text", config.width(), shape.text_width, heads, config.width() / heads);
    }
    weights = scope.weights();
  }

  at::Tensor operator()(const at::Tensor& rows, const BlockCall& call) const {
    // Shift, scale and gate of the attention, then of the feed-forward.
    const std::vector<at::Tensor> m = modulation(call.embedding).to(at::kFloat).chunk(6, 1);
    const at::Tensor projected = qkv(modulated(rows, m[0], m[1]));
    const at::Tensor mixed = over_frames
                                 ? attend_over_frames(qkv.kernels, projected, heads, call.frames)
                                 : attend_in_images(qkv.kernels, projected, heads);
    at::Tensor h = rows + m[2].unsqueeze(1) * out(mixed);
    if (text) h = (*text)(h, call.text);
    const at::Tensor hidden = at::gelu(wide(modulated(h, m[3], m[4])), "tanh");
    return h + m[5].unsqueeze(1) * narrow(hidden);
  }

  Linear modulation, qkv, out, wide, narrow;
  std::optional<CrossAttention> text;
  int64_t heads;
  bool over_frames;
  Tensors weights;
};

// Position embedding of patches [patches, width]: sinusoids of column and row, half the width each.
at::Tensor patch_positions(int64_t rows, int64_t columns, int64_t width) {
  const auto along = [&](int64_t count) {
    return sinusoid(at::arange(count), width / 2, Sinusoid::kSineFirst);
  };
  const at::Tensor down = along(rows).unsqueeze(1).expand({-1, columns, -1}),
                   across = along(columns).unsqueeze(0).expand({rows, -1, -1});
  return at::cat({across, down}, -1).flatten(0, 1);
}

void check(const DitConfig& config, const ClipShape& shape) {
  if (shape.height % config.patch() != 0 || shape.width % config.patch() != 0) {
    fail(Code::kUsage, "model.dit.patch is ", config.patch(), ", which does not divide ",
         shape.height, "x", shape.width, "; choose one that does");
  }
  if (config.width() % config.heads() != 0) {
    fail(Code::kUsage, "model.dit.heads is ", config.heads(), ", which does not divide the width ",
         config.width(), "; choose other heads or another width");
  }
  if (config.width() % 4 != 0 || config.width() / config.heads() % 2 != 0) {
    fail(Code::kUsage, "model.dit.width is ", config.width(), " with ", config.heads(),
         " heads, expected a multiple of 4 and heads of an even width");
  }
}

class Dit : public Denoiser {
 public:
  Dit(const DitConfig& config, const DenoiserShape& shape, const Scope& scope)
      : config_(config),
        shape_(shape),
        level1_(scope / "level" / "first", kSignalWidth, config.width()),
        level2_(scope / "level" / "second", config.width(), config.width()),
        first_(scope / "first", patch_elements(shape.clip.channels), config.width()),
        conditioning_(scope, shape, config.width()),
        positions_(scope.constant(
            "places", patch_positions(shape.clip.height / config.patch(),
                                      shape.clip.width / config.patch(), config.width()))),
        last_modulation_(scope / "last" / "say", config.width(), 2 * int64_t{config.width()}, true,
                         Init::kZeros),
        last_(scope / "last" / "linear", config.width(), patch_elements(shape.out_channels), true,
              Init::kZeros) {
    const bool over_frames = shape.clip.frames > 1;
    if (over_frames && config.temporal_position()) {
      distances_.emplace(scope / "distances", config.heads());
      rotary_.emplace(scope / "rotary", std::min(32, config.width() / config.heads()));
    }
    for (int i = 0; i < config.layers(); ++i) {
      const Scope here = scope / "layers" / std::to_string(i);
      blocks_.emplace_back(here / "spatial", config, shape, false);
      if (over_frames) blocks_.emplace_back(here / "temporal", config, shape, true);
    }
  }

  at::Tensor operator()(const NoisyClips& clips) const override {
    const BlockCall call{
        embedding(clips), frame_context(clips, distances_, rotary_), {}, text_context(clips)};
    at::Tensor rows = first_(patches(clips.z_BTHWC.flatten(0, 1))).to(at::kFloat) + positions_;
    for (const TransformerBlock& block : blocks_) {
      rows = run_block([&block](const at::Tensor& in, const BlockCall& c) { return block(in, c); },
                       block.weights, rows, call, shape_.recompute);
    }
    const std::vector<at::Tensor> m = last_modulation_(call.embedding).to(at::kFloat).chunk(2, 1);
    return images(last_(modulated(rows, m[0], m[1]))).unflatten(0, {-1, clips.frames()});
  }

 private:
  int64_t patch_elements(int64_t channels) const {
    return int64_t{config_.patch()} * config_.patch() * channels;
  }

  // [N, H, W, C] to [N, patches, elements] and back.
  at::Tensor patches(const at::Tensor& images) const {
    const int64_t p = config_.patch();
    return images.unflatten(2, {-1, p})
        .unflatten(1, {-1, p})
        .permute({0, 1, 3, 2, 4, 5})
        .flatten(3)
        .flatten(1, 2);
  }
  at::Tensor images(const at::Tensor& rows) const {
    const int64_t p = config_.patch();
    return rows.unflatten(2, {p, p, -1})
        .unflatten(1, {shape_.clip.height / p, -1})
        .permute({0, 1, 3, 2, 4, 5})
        .flatten(3, 4)
        .flatten(1, 2);
  }

  at::Tensor embedding(const NoisyClips& clips) const {
    const at::Tensor signal = sinusoid(clips.signal_BT, kSignalWidth, Sinusoid::kCosineFirst);
    return at::silu(conditioning_(level2_(at::silu(level1_(signal))), clips)).flatten(0, 1);
  }

  DitConfig config_;
  DenoiserShape shape_;
  Linear level1_, level2_, first_;
  ConditionEmbedding conditioning_;
  at::Tensor positions_;
  Linear last_modulation_, last_;
  std::optional<DistanceBias> distances_;
  std::optional<Rotary> rotary_;
  std::vector<TransformerBlock> blocks_;
};

}  // namespace

std::unique_ptr<Denoiser> make_dit(const DitConfig& config, const DenoiserShape& shape,
                                   const Scope& scope) {
  check(config, shape.clip);
  return std::make_unique<Dit>(config, shape, scope);
}

}  // namespace lf
