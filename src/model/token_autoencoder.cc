#include "model/token_autoencoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "model/discriminator.h"
#include "model/quantiser.h"
#include "model/transformer.h"

namespace lf {
namespace {

// How many codes it would take to be as varied, were all used alike: exp of the entropy.
at::Tensor perplexity(const at::Tensor& ids, int64_t codes) {
  const at::Tensor share =
      at::bincount(ids.flatten(), {}, codes).to(at::kFloat) / static_cast<double>(ids.numel());
  return (-(share * share.clamp_min(1e-30).log()).sum()).exp();
}

class TokenAutoencoder : public Tokenizer {
 public:
  TokenAutoencoder(const TokenParts& parts, const Config& config, const ClipShape& shape,
                   at::Device device, const SumOverRanks& sum)
      : table_(config.train().seed(), device),
        plan_{config.train().batch(), config.train().accumulation(), sum},
        reconstruction_(parts.reconstruction),
        gan_(parts.gan) {
    const Scope root(table_);
    network_ = parts.network(root);
    quantiser_ = make_quantiser(parts.quantiser, root / "quantiser", plan_);
    if (parts.always_project || network_->width() != quantiser_->dim() ||
        network_->width() != quantiser_->given_dim()) {
      project_in_.emplace(root / "quantiser.in", network_->width(), quantiser_->given_dim());
      project_out_.emplace(root / "quantiser.out", quantiser_->dim(), network_->width());
    }
    generator_count_ = table_.weights().size();
    if (gan_.weight() > 0) discriminator_.emplace(root / "discriminator", gan_, shape);
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
    return phase == 0 ? generator_loss(clips, training) : discriminator_loss(clips);
  }

  void after_update(int64_t images) override { quantiser_->after_update(images); }

  at::Tensor preview(const Clips& clips) override { return reconstruct(clips); }

  at::Tensor reconstruct(const Clips& clips) override {
    return clips_of_latents(latents(clips.x_BTHWC));
  }

  int64_t codes() const override { return quantiser_->codes(); }
  std::array<int64_t, 3> grid(int64_t frames) const override { return network_->grid(frames); }
  int64_t frames(int64_t steps) const override { return network_->frames(steps); }

  at::Tensor encode(const at::Tensor& x_BTHWC) override {
    const at::NoGradGuard no_grad;
    const at::Tensor ids = quantiser_->quantise(vectors(x_BTHWC), {x_BTHWC, {}}, false).ids;
    LF_CHECK(ids.defined(), "codes of an autoencoder that has none");
    return ids;
  }

  at::Tensor decode(const at::Tensor& ids_BTHW) override {
    const at::NoGradGuard no_grad;
    return clips_of(quantiser_->lookup(ids_BTHW)).clamp(-1, 1);
  }

  int64_t latent_width() const override { return quantiser_->dim(); }

  at::Tensor latents(const at::Tensor& x_BTHWC) override {
    const at::NoGradGuard no_grad;
    return vectors(x_BTHWC).slice(-1, 0, quantiser_->dim());
  }

  at::Tensor clips_of_latents(const at::Tensor& z_BTHWD) override {
    const at::NoGradGuard no_grad;
    if (quantiser_->codes() == 0) return clips_of(z_BTHWD).clamp(-1, 1);
    return decode(quantiser_->quantise(z_BTHWD, {z_BTHWD, {}}, false).ids);
  }

 private:
  at::Tensor vectors(const at::Tensor& x_BTHWC) const {
    const at::Tensor features = network_->encode(x_BTHWC);
    return (project_in_ ? (*project_in_)(features) : features).to(at::kFloat);
  }

  at::Tensor clips_of(const at::Tensor& vectors) const {
    return network_->decode(project_out_ ? (*project_out_)(vectors) : vectors).to(at::kFloat);
  }

  Loss generator_loss(const Clips& clips, bool training) {
    const Quantised codes = quantiser_->quantise(vectors(clips.x_BTHWC), clips, training);
    const at::Tensor made = clips_of(codes.z);
    const at::Tensor reconstruction = difference(made, clips.x_BTHWC);
    Loss out{reconstruction + codes.loss,
             {{"reconstruction", reconstruction.detach()}, {"quantiser", codes.loss.detach()}}};
    if (codes.ids.defined()) {
      out.terms.push_back({"perplexity", perplexity(codes.ids, quantiser_->codes())});
    }
    // Validation compares over a run, so it leaves out what changes with the discriminator.
    if (discriminator_ && training) add_adversarial(clips, made, reconstruction, out);
    return out;
  }

  at::Tensor difference(const at::Tensor& made, const at::Tensor& given) const {
    const at::Tensor gap = made - given;
    at::Tensor by_frame = reconstruction_.l1() * gap.abs().mean({0, 2, 3, 4}) +
                          reconstruction_.l2() * gap.square().mean({0, 2, 3, 4});
    if (reconstruction_.last_frame() != 1) {
      at::Tensor weights = at::ones_like(by_frame.detach());
      weights[-1] = reconstruction_.last_frame();
      by_frame = by_frame * weights * static_cast<double>(by_frame.size(0)) / weights.sum();
    }
    return by_frame.mean();
  }

  // The weight is that of the step's first clip, on every rank.
  double adversarial_weight(const Clips& clips) const {
    const auto past = static_cast<double>(plan_.first(clips.first_position) - gan_.start_images());
    if (past < 0) return 0;
    const auto ramp = static_cast<double>(gan_.ramp_images());
    return gan_.weight() * (ramp > 0 ? std::min(1.0, past / ramp) : 1.0);
  }

  void add_adversarial(const Clips& clips, const at::Tensor& made, const at::Tensor& reconstruction,
                       Loss& out) {
    const double weight = adversarial_weight(clips);
    at::Tensor fooled = at::zeros({}), ratio = at::ones({});
    if (weight > 0) {
      fooled = -(*discriminator_)(one_frame(clips, made)).mean();
      ratio = ratio.to(fooled.device());
      if (gan_.adaptive_limit() > 0) {
        ratio =
            adaptive_weight(reconstruction, fooled, network_->last_weights(clips.x_BTHWC.size(1)),
                            gan_.adaptive_limit(), plan_.sum);
      }
      out.total = out.total + weight * ratio * fooled;
    }
    out.terms.push_back({"adversarial", fooled.detach()});
    out.terms.push_back({"adversarial_weight", weight * ratio});
  }

  Loss discriminator_loss(const Clips& clips) const {
    at::Tensor made;
    {
      const at::NoGradGuard no_grad;
      made = clips_of(quantiser_->quantise(vectors(clips.x_BTHWC), clips, false).z);
    }
    const at::Tensor real = one_frame(clips, clips.x_BTHWC), fake = one_frame(clips, made);
    const at::Tensor hinge = hinge_loss((*discriminator_)(real), (*discriminator_)(fake));
    Loss out{hinge, {{"discriminator", hinge.detach()}}};
    if (gan_.r1() == 0) return out;
    at::Tensor penalty = at::zeros({});
    if (clips.first_position / plan_.clips % gan_.r1_every() == 0) {
      penalty = r1_penalty(*discriminator_, real);
      out.total = out.total + gan_.r1() * gan_.r1_every() * penalty;
    }
    out.terms.push_back({"r1", penalty.detach()});
    return out;
  }

  // The frame of each clip that the discriminator sees in this step, [B, C, H, W].
  at::Tensor one_frame(const Clips& clips, const at::Tensor& x_BTHWC) const {
    const int64_t frames = x_BTHWC.size(1);
    if (frames == 1) return frames_as_images(x_BTHWC);
    const at::Tensor luck = keyed_uniform(clips, Purpose::kFrameChoice, 0, {2});
    const at::Tensor any = (luck.select(1, 1) * static_cast<double>(frames)).to(at::kLong);
    const at::Tensor frame = at::where(luck.select(1, 0) < gan_.last_frame(), frames - 1, any);
    const at::Tensor which =
        frame.view({-1, 1, 1, 1, 1})
            .expand({-1, 1, x_BTHWC.size(2), x_BTHWC.size(3), x_BTHWC.size(4)});
    return frames_as_images(x_BTHWC.gather(1, which));
  }

  ParameterTable table_;
  BatchPlan plan_;
  ReconstructionConfig reconstruction_;
  GanConfig gan_;
  std::unique_ptr<TokenNetwork> network_;
  std::unique_ptr<Quantiser> quantiser_;
  std::optional<Linear> project_in_, project_out_;
  std::optional<Discriminator> discriminator_;
  size_t generator_count_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_token_autoencoder(const TokenParts& parts, const Config& config,
                                                  const ClipShape& shape, at::Device device,
                                                  const SumOverRanks& sum) {
  return std::make_unique<TokenAutoencoder>(parts, config, shape, device, sum);
}

}  // namespace lf
