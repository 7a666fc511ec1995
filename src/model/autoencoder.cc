#include "model/autoencoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>

#include <optional>

#include "base/error.h"
#include "model/layers.h"
#include "model/recompute.h"

namespace lf {
namespace {

// conv - norm - SiLU, then h + temporal convolution(h), initially the identity.
struct Block {
  Block(const Scope& scope, int64_t in, int64_t out, int64_t stride, int64_t frames)
      : conv(scope / "conv", in, out, 3, stride), norm(scope / "norm", out) {
    if (frames > 1) temporal.emplace(scope / "temporal", out, Init::kZeros);
    weights = scope.weights();
  }
  at::Tensor operator()(const at::Tensor& x, int64_t frames) const {
    const at::Tensor h = norm.with_silu(conv(x));
    return temporal ? h + (*temporal)(h, frames) : h;
  }
  Conv2d conv;
  GroupNorm norm;
  std::optional<TemporalConv> temporal;  // none for images
  Tensors weights;                       // of all of these
};

struct Discriminator {
  Discriminator(const Scope& scope, int64_t channels, int64_t width)
      : first(scope / "first", channels, width, 3, 2),
        second(scope / "second", width, 2 * width, 3, 2),
        norm(scope / "norm", 2 * width),
        head(scope / "head", 2 * width, 1, 3) {}
  at::Tensor operator()(const at::Tensor& images) const {
    return head(at::leaky_relu(norm(second(at::leaky_relu(first(images), 0.2))), 0.2));
  }
  Conv2d first, second;
  GroupNorm norm;
  Conv2d head;
};

class Autoencoder : public Model {
 public:
  Autoencoder(const AutoencoderConfig& config, const ClipShape& shape, const TrainConfig& train,
              at::Device device)
      : table_(train, device),
        dropout_(config.dropout()),
        gan_weight_(config.gan_weight()),
        recompute_(train.recompute()) {
    const std::vector<int> multipliers =
        config.multipliers().empty()
            ? std::vector<int>{1, 2}
            : std::vector<int>(config.multipliers().begin(), config.multipliers().end());
    const int factor = 1 << (multipliers.size() - 1);
    if (shape.height % factor != 0 || shape.width % factor != 0) {
      fail(Code::kUsage, "model.autoencoder.multipliers has ", multipliers.size(),
           " levels, which need height and width divisible by ", factor, "; clips are ",
           shape.height, "x", shape.width);
    }
    build(Scope(table_), shape, config.width(), config.latent(), multipliers);
    generator_count_ = table_.weights().size();
    if (gan_weight_ > 0) {
      discriminator_.emplace(Scope(table_, "discriminator"), shape.channels, config.width());
    }
  }

  const ParameterTable& parameters() const override { return table_; }

  std::vector<Phase> phases() const override {
    const auto& all = table_.weights();
    const auto middle = all.begin() + static_cast<int64_t>(generator_count_);
    std::vector<Phase> phases = {{"generator", {all.begin(), middle}}};
    if (discriminator_) phases.push_back({"discriminator", {middle, all.end()}});
    return phases;
  }

  Loss loss(const Clips& clips, size_t phase, bool training) override {
    const at::Tensor images = frames_as_images(clips.x_BTHWC);
    const at::Tensor made = forward(clips, training);
    if (phase == 1) return discriminator_loss(clips, made.detach());
    const at::Tensor reconstruction = at::mse_loss(made.to(at::kFloat), images);
    Loss out{reconstruction, {{"reconstruction", reconstruction.detach()}}};
    if (discriminator_) {
      const at::Tensor fooled = -(*discriminator_)(last_frames(clips, made)).to(at::kFloat).mean();
      out.total = out.total + gan_weight_ * fooled;
      out.terms.push_back({"adversarial", fooled.detach()});
    }
    return out;
  }

  std::string unrecordable() const override { return {}; }
  at::Tensor preview(const Clips& clips) override { return reconstruct(clips); }

  at::Tensor reconstruct(const Clips& clips) override {
    return images_as_frames(forward(clips, false), clips.x_BTHWC.size(1)).clamp(-1, 1);
  }

 private:
  void build(const Scope& root, const ClipShape& shape, int64_t width, int64_t latent,
             const std::vector<int>& multipliers) {
    int64_t in = shape.channels;
    for (size_t level = 0; level < multipliers.size(); ++level) {
      const int64_t out = width * multipliers[level];
      down_.emplace_back(root / "encoder" / std::to_string(level), in, out, level == 0 ? 1 : 2,
                         shape.frames);
      in = out;
    }
    to_code_.emplace(root / "encoder" / "code", in, latent, 1);
    from_code_.emplace(root / "decoder" / "code", latent, in, 1);
    for (size_t level = multipliers.size(); level-- > 0;) {
      const int64_t out = width * multipliers[level];
      up_.emplace_back(root / "decoder" / std::to_string(level), in, out, 1, shape.frames);
      in = out;
    }
    to_pixels_.emplace(root / "decoder" / "pixels", in, shape.channels, 3);
  }

  at::Tensor run(const Block& block, const at::Tensor& h, int64_t frames) const {
    if (!recompute_) return block(h, frames);
    return recompute([&block, frames](const at::Tensor& x) { return block(x, frames); }, h,
                     block.weights);
  }

  at::Tensor forward(const Clips& clips, bool training) const {
    const int64_t frames = clips.x_BTHWC.size(1);
    at::Tensor h = frames_as_images(clips.x_BTHWC);
    for (const Block& block : down_) h = run(block, h, frames);
    at::Tensor code = at::tanh((*to_code_)(h));
    if (training && dropout_ > 0) {
      // One mask value a clip and channel, for all frames and pixels.
      const at::Tensor kept =
          (keyed_uniform(clips, Purpose::kDropout, 0, {1, code.size(1), 1, 1}) >= dropout_)
              .to(code.scalar_type()) /
          (1 - dropout_);
      code = code * kept.expand({clips.size(), frames, code.size(1), 1, 1})
                        .reshape({clips.size() * frames, code.size(1), 1, 1});
    }
    h = (*from_code_)(code);
    for (size_t i = 0; i < up_.size(); ++i) {
      if (i > 0) h = twice_as_large(h);
      h = run(up_[i], h, frames);
    }
    return (*to_pixels_)(h);
  }

  static at::Tensor last_frames(const Clips& clips, const at::Tensor& images) {
    return frames_as_images(images_as_frames(images, clips.x_BTHWC.size(1)).slice(1, -1));
  }

  Loss discriminator_loss(const Clips& clips, const at::Tensor& made) const {
    const at::Tensor real = (*discriminator_)(frames_as_images(clips.x_BTHWC.slice(1, -1)));
    const at::Tensor fake = (*discriminator_)(last_frames(clips, made));
    const at::Tensor hinge =
        0.5 * (at::relu(1 - real.to(at::kFloat)).mean() + at::relu(1 + fake.to(at::kFloat)).mean());
    return {hinge, {{"discriminator", hinge.detach()}}};
  }

  ParameterTable table_;
  double dropout_, gan_weight_;
  bool recompute_;
  size_t generator_count_ = 0;
  std::vector<Block> down_, up_;
  std::optional<Conv2d> to_code_, from_code_, to_pixels_;
  std::optional<Discriminator> discriminator_;
};

}  // namespace

std::unique_ptr<Model> make_autoencoder(const AutoencoderConfig& config, const ClipShape& shape,
                                        const TrainConfig& train, at::Device device) {
  return std::make_unique<Autoencoder>(config, shape, train, device);
}

}  // namespace lf
