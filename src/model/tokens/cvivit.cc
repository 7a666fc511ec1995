#include "model/tokens/cvivit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/silu.h>

#include <optional>

#include "base/error.h"
#include "model/layers.h"
#include "model/tokens/transformer.h"

namespace lf {
namespace {

void check_shape(const CvivitConfig& config, const ClipShape& shape) {
  const int64_t side = int64_t{config.patch()} << config.stem();
  if (shape.height % side != 0 || shape.width % side != 0) {
    fail(Code::kUsage, "model.cvivit.patch=", config.patch(), " with stem=", config.stem(),
         " needs height and width divisible by ", side, "; clips are ", shape.height, "x",
         shape.width);
  }
  if ((shape.frames - 1) % config.temporal_patch() == 0) return;
  std::vector<std::string> legal;
  for (int patch = 1; patch < shape.frames; ++patch) {
    if ((shape.frames - 1) % patch == 0) legal.push_back(std::to_string(patch));
  }
  const int below = (shape.frames - 1) / config.temporal_patch() * config.temporal_patch() + 1;
  fail(Code::kUsage, "model.cvivit.temporal_patch=", config.temporal_patch(),
       " does not divide the frames after the first of clips of ", shape.frames, "; give one of ",
       join(legal, ", "), ", or clips of ", below, " or ", below + config.temporal_patch(),
       " frames");
}

// [B, n * patch_t, h * p, w * p, C] <-> [B, n, h, w, patch_t * p * p * C]
at::Tensor to_patches(const at::Tensor& x, int64_t time, int64_t side) {
  return x.unflatten(3, {-1, side})
      .unflatten(2, {-1, side})
      .unflatten(1, {-1, time})
      .permute({0, 1, 3, 5, 2, 4, 6, 7})
      .flatten(4);
}

at::Tensor from_patches(const at::Tensor& x, int64_t time, int64_t side) {
  return x.unflatten(4, {time, side, side, -1})
      .permute({0, 1, 4, 2, 5, 3, 6, 7})
      .flatten(5, 6)
      .flatten(3, 4)
      .flatten(1, 2);
}

struct PatchEmbedding {
  PatchEmbedding(const Scope& scope, CvivitConfig::PatchNorm norm, int64_t in, int64_t out)
      : before(norm == CvivitConfig::BOTH ? std::make_optional<LayerNorm>(scope / "before", in)
                                          : std::nullopt),
        linear(scope / "linear", in, out),
        after(scope / "after", out) {}
  at::Tensor operator()(const at::Tensor& x) const {
    return after(linear(before ? (*before)(x) : x));
  }
  std::optional<LayerNorm> before;  // of raw values: without brightness and contrast
  Linear linear;
  LayerNorm after;
};

// Convolutions on every frame before the patches, mirrored in the decoder.
struct Stem {
  Stem(const Scope& scope, const CvivitConfig& config, int64_t pixels)
      : in(scope / "in", pixels, config.stem_width(), 3),
        out(scope / "out", config.stem_width(), pixels, 3) {
    channels = config.stem_width();
    for (int i = 0; i < config.stem(); ++i, channels *= 2) {
      down.emplace_back(scope / str("down", i), channels, 2 * channels, 3, 2);
      up.emplace_back(scope / str("up", i), 2 * channels, channels, 3);
      norm_down.emplace_back(scope / str("norm_down", i), channels);
      norm_up.emplace_back(scope / str("norm_up", i), 2 * channels);
    }
  }
  at::Tensor encode(const at::Tensor& x_BTHWC) const {
    at::Tensor h = in(frames_as_images(x_BTHWC));
    for (size_t i = 0; i < down.size(); ++i) h = down[i](norm_down[i].with_silu(h));
    return images_as_frames(h, x_BTHWC.size(1));
  }
  at::Tensor decode(const at::Tensor& x_BTHWC) const {
    at::Tensor h = frames_as_images(x_BTHWC);
    for (size_t i = up.size(); i-- > 0;) h = up[i](twice_as_large(norm_up[i].with_silu(h)));
    return images_as_frames(out(at::silu(h)), x_BTHWC.size(1));
  }
  Conv2d in, out;
  int64_t channels = 0;  // at the deepest level
  std::vector<Conv2d> down, up;
  std::vector<GroupNorm> norm_down, norm_up;
};

class CvivitNetwork : public TokenNetwork {
 public:
  CvivitNetwork(const Scope& root, const CvivitConfig& config, const ClipShape& shape)
      : side_(config.patch()), time_(config.temporal_patch()), width_(config.width()) {
    check_shape(config, shape);
    int64_t channels = shape.channels;
    if (config.stem() > 0) {
      stem_.emplace(root / "stem", config, channels);
      channels = stem_->channels;
    }
    rows_ = (shape.height >> config.stem()) / side_;
    columns_ = (shape.width >> config.stem()) / side_;
    const int64_t first = side_ * side_ * channels, rest = time_ * first;
    const bool video = shape.frames > 1;  // images do not use the later frames' weights
    embed_first_.emplace(root / "encoder" / "first", config.patch_norm(), first, width_);
    if (video) embed_rest_.emplace(root / "encoder" / "rest", config.patch_norm(), rest, width_);
    const auto layers = [&](const Scope& scope, bool temporal) {
      return GridTransformer(
          scope, {width_, config.heads(), config.head_width(), config.raw_keys()},
          temporal ? config.temporal_layers() : config.spatial_layers(), temporal);
    };
    offsets_.emplace(root / "offsets", width_, config.heads());
    encode_space_.emplace(layers(root / "encoder" / "space", false));
    encode_time_.emplace(layers(root / "encoder" / "time", true));
    decode_time_.emplace(layers(root / "decoder" / "time", true));
    decode_space_.emplace(layers(root / "decoder" / "space", false));
    pixels_first_.emplace(root / "decoder" / "first", width_, first);
    if (video) pixels_rest_.emplace(root / "decoder" / "rest", width_, rest);
  }

  int64_t width() const override { return width_; }

  std::array<int64_t, 3> grid(int64_t frames) const override {
    if (frames < 1 || (frames - 1) % time_ != 0 || (frames > 1 && !embed_rest_)) {
      fail(Code::kUsage, "clips of ", frames, " frames cannot be cut into patches; ",
           embed_rest_ ? str("1 plus a multiple of ", time_, " frames can")
                       : std::string("this C-ViViT was trained on single images"));
    }
    return {1 + (frames - 1) / time_, rows_, columns_};
  }
  int64_t frames(int64_t steps) const override { return 1 + (steps - 1) * time_; }

  at::Tensor encode(const at::Tensor& x_BTHWC) const override {
    const int64_t frames = x_BTHWC.size(1);
    grid(frames);  // throws on other lengths
    const at::Tensor x = stem_ ? stem_->encode(x_BTHWC) : x_BTHWC;
    at::Tensor h = (*embed_first_)(to_patches(x.slice(1, 0, 1), 1, side_));
    if (frames > 1) {
      h = at::cat({h, (*embed_rest_)(to_patches(x.slice(1, 1), time_, side_))}, 1);
    }
    return (*encode_time_)((*encode_space_)(h, (*offsets_)(rows_, columns_)));
  }

  at::Tensor decode(const at::Tensor& z_BTHWD) const override {
    const at::Tensor h = (*decode_space_)((*decode_time_)(z_BTHWD), (*offsets_)(rows_, columns_));
    at::Tensor x = from_patches((*pixels_first_)(h.slice(1, 0, 1)), 1, side_);
    if (h.size(1) > 1) {
      x = at::cat({x, from_patches((*pixels_rest_)(h.slice(1, 1)), time_, side_)}, 1);
    }
    return stem_ ? stem_->decode(x) : x;
  }

  // The stem's last convolution, else the output layers in use.
  std::vector<at::Tensor> last_weights(int64_t frames) const override {
    if (stem_) return {stem_->out.weight};
    if (frames == 1) return {pixels_first_->weight.stored()};
    return {pixels_first_->weight.stored(), pixels_rest_->weight.stored()};
  }

 private:
  int64_t side_, time_, width_, rows_ = 0, columns_ = 0;
  std::optional<Stem> stem_;
  std::optional<PatchEmbedding> embed_first_, embed_rest_;
  std::optional<OffsetBias> offsets_;  // one for encoder and decoder
  std::optional<GridTransformer> encode_space_, encode_time_, decode_time_, decode_space_;
  std::optional<Linear> pixels_first_, pixels_rest_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_cvivit(const Config& config, const ClipShape& shape,
                                       at::Device device, const SumOverRanks& sum,
                                       const OpenExport& open) {
  const CvivitConfig& own = config.model().cvivit();
  TokenParts parts;
  parts.network = [&](const Scope& root) {
    return std::make_unique<CvivitNetwork>(root, own, shape);
  };
  parts.quantiser = own.quantiser();
  parts.reconstruction = own.reconstruction();
  parts.perceptual = own.perceptual();
  parts.gan = own.gan();
  return make_token_autoencoder(parts, config, shape, device, sum, open);
}

}  // namespace lf
