#include "model/tokens/vqvae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "model/layers.h"

namespace lf {
namespace {

constexpr double kEpsilon = 1e-6;

// What all layers share.
struct Kind {
  int64_t groups;  // of norms; 0: by their channels
  GroupNorm norm(const Scope& scope, int64_t channels) const {
    return {scope, channels, groups, kEpsilon};
  }
};

struct ResidualBlock {
  ResidualBlock(const Scope& scope, const Kind& kind, int64_t in, int64_t out)
      : norm1(kind.norm(scope / "norm1", in)),
        norm2(kind.norm(scope / "norm2", out)),
        conv1(scope / "conv1", in, out, 3),
        conv2(scope / "conv2", out, out, 3) {
    if (in != out) skip.emplace(scope / "skip", in, out, 1);
  }
  at::Tensor operator()(const at::Tensor& x) const {
    return (skip ? (*skip)(x) : x) + conv2(norm2.with_silu(conv1(norm1.with_silu(x))));
  }
  GroupNorm norm1, norm2;
  Conv2d conv1, conv2;
  std::optional<Conv2d> skip;
};

// One head over all pixels of an image.
struct AttentionBlock {
  AttentionBlock(const Scope& scope, const Kind& kind, int64_t channels)
      : norm(kind.norm(scope / "norm", channels)),
        qkv(scope / "qkv", channels, 3 * channels, 1),
        out(scope / "out", channels, channels, 1) {}
  at::Tensor operator()(const at::Tensor& x) const {
    const std::vector<at::Tensor> parts =
        qkv(norm(x)).permute({0, 2, 3, 1}).flatten(1, 2).unsqueeze(1).chunk(3, -1);
    const at::Tensor mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2]);
    const at::Tensor pixels = mixed.squeeze(1).unflatten(1, {x.size(2), x.size(3)});
    return x + out(pixels.permute({0, 3, 1, 2}));
  }
  GroupNorm norm;
  Conv2d qkv, out;
};

// Blocks of one level of the encoder or decoder, and the resampling after them.
struct Level {
  std::vector<ResidualBlock> blocks;
  std::vector<AttentionBlock> attention;  // one a block, or none
  std::optional<Conv2d> resize;           // stride 2 down, or after doubling up

  Level(const Scope& scope, const Kind& kind, int64_t in, int64_t out, int count, bool attend) {
    for (int i = 0; i < count; ++i) {
      blocks.emplace_back(scope / str("block", i), kind, i == 0 ? in : out, out);
      if (attend) attention.emplace_back(scope / str("attention", i), kind, out);
    }
  }
  at::Tensor operator()(at::Tensor x) const {
    for (size_t i = 0; i < blocks.size(); ++i) {
      x = blocks[i](x);
      if (!attention.empty()) x = attention[i](x);
    }
    return x;
  }
};

struct Middle {
  Middle(const Scope& scope, const Kind& kind, int64_t channels)
      : first(scope / "block0", kind, channels, channels),
        attention(scope / "attention", kind, channels),
        second(scope / "block1", kind, channels, channels) {}
  at::Tensor operator()(const at::Tensor& x) const { return second(attention(first(x))); }
  ResidualBlock first;
  AttentionBlock attention;
  ResidualBlock second;
};

class VqVaeNetwork : public TokenNetwork {
 public:
  VqVaeNetwork(const Scope& root, const VqVaeConfig& config, const ClipShape& shape)
      : latent_(config.latent()),
        decoder_latent_(config.decoder_latent() > 0 ? config.decoder_latent() : config.latent()) {
    std::vector<int64_t> channels(config.multipliers().begin(), config.multipliers().end());
    if (channels.empty()) channels = {1, 2, 4};
    for (int64_t& multiplier : channels) multiplier *= config.width();
    const int64_t factor = int64_t{1} << (channels.size() - 1);
    if (shape.height % factor != 0 || shape.width % factor != 0) {
      fail(Code::kUsage, "model.vqvae.multipliers has ", channels.size(),
           " levels, which need height and width divisible by ", factor, "; clips are ",
           shape.height, "x", shape.width);
    }
    height_ = shape.height / factor;
    width_ = shape.width / factor;
    std::vector<int64_t> attend(config.attention().begin(), config.attention().end());
    if (attend.empty()) attend = {8};
    const auto attends = [&](size_t level) {
      return std::count(attend.begin(), attend.end(), shape.height >> level) > 0;
    };
    const size_t levels = channels.size();
    const int64_t deepest = channels.back();
    const Kind kind{config.norm_groups()};
    const Scope in = root / "encoder", out = root / "decoder";
    from_pixels_.emplace(in / "pixels", shape.channels, channels[0], 3);
    for (size_t i = 0; i < levels; ++i) {
      down_.emplace_back(in / str("level", i), kind, channels[i == 0 ? 0 : i - 1], channels[i],
                         config.blocks(), attends(i));
      if (i + 1 < levels) {
        down_.back().resize.emplace(in / str("level", i) / "resize", channels[i], channels[i], 3,
                                    2);
      }
    }
    middle_in_.emplace(in / "middle", kind, deepest);
    norm_in_.emplace(kind.norm(in / "norm", deepest));
    to_latent_.emplace(in / "latent", deepest, latent_, 3);
    from_latent_.emplace(out / "latent", decoder_latent_, deepest, 3);
    middle_out_.emplace(out / "middle", kind, deepest);
    for (size_t i = levels; i-- > 0;) {
      up_.emplace_back(out / str("level", i), kind, channels[std::min(i + 1, levels - 1)],
                       channels[i], config.blocks() + 1, attends(i));
      if (i > 0) {
        up_.back().resize.emplace(out / str("level", i) / "resize", channels[i], channels[i], 3);
      }
    }
    norm_out_.emplace(kind.norm(out / "norm", channels[0]));
    to_pixels_.emplace(out / "pixels", channels[0], shape.channels, 3);
  }

  int64_t width() const override { return latent_; }
  int64_t decoder_width() const override { return decoder_latent_; }
  std::array<int64_t, 3> grid(int64_t frames) const override { return {frames, height_, width_}; }
  int64_t frames(int64_t steps) const override { return steps; }

  at::Tensor encode(const at::Tensor& x_BTHWC) const override {
    at::Tensor h = (*from_pixels_)(frames_as_images(x_BTHWC));
    for (const Level& level : down_) {
      h = level(h);
      // Padded right and below only, as VQ-GAN does.
      if (level.resize) {
        h = at::conv2d(at::pad(h, {0, 1, 0, 1}), level.resize->weight, level.resize->bias, 2);
      }
    }
    h = (*to_latent_)(norm_in_->with_silu((*middle_in_)(h)));
    return images_as_frames(h, x_BTHWC.size(1));
  }

  at::Tensor decode(const at::Tensor& z_BTHWD) const override {
    at::Tensor h = (*middle_out_)((*from_latent_)(frames_as_images(z_BTHWD)));
    for (const Level& level : up_) {
      h = level(h);
      if (level.resize) h = (*level.resize)(twice_as_large(h));
    }
    h = (*to_pixels_)(norm_out_->with_silu(h));
    return images_as_frames(h, z_BTHWD.size(1));
  }

  std::vector<at::Tensor> last_weights(int64_t /*frames*/) const override {
    return {to_pixels_->weight};
  }

 private:
  int64_t latent_, decoder_latent_, height_ = 0, width_ = 0;
  std::vector<Level> down_, up_;
  std::optional<Middle> middle_in_, middle_out_;
  std::optional<GroupNorm> norm_in_, norm_out_;
  std::optional<Conv2d> from_pixels_, to_latent_, from_latent_, to_pixels_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_vqvae(const Config& config, const ClipShape& shape,
                                      at::Device device, const SumOverRanks& sum,
                                      const OpenExport& open) {
  const VqVaeConfig& own = config.model().vqvae();
  TokenParts parts;
  parts.network = [&](const Scope& root) {
    return std::make_unique<VqVaeNetwork>(root, own, shape);
  };
  parts.quantiser = own.quantiser();
  parts.always_project = true;
  parts.reconstruction = own.reconstruction();
  parts.perceptual = own.perceptual();
  parts.gan = own.gan();
  return make_token_autoencoder(parts, config, shape, device, sum, open);
}

}  // namespace lf
