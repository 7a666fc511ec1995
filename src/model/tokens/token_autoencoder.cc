#include "model/tokens/token_autoencoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/tokens/discriminator.h"
#include "model/tokens/perceptual.h"
#include "model/tokens/quantiser.h"
#include "model/tokens/transformer.h"

namespace lf {
namespace {

// Layers of the keyed choice of frames.
constexpr uint32_t kAdversarialFrame = 0, kPerceptualFrame = 1;

// exp of the entropy of code usage: the effective number of codes.
at::Tensor perplexity(const at::Tensor& ids, int64_t codes) {
  const at::Tensor share = code_counts(ids, codes) / static_cast<double>(ids.numel());
  return (-(share * share.clamp_min(1e-30).log()).sum()).exp();
}

class TokenAutoencoder : public Tokenizer {
 public:
  TokenAutoencoder(const TokenParts& parts, const Config& config, const ClipShape& shape,
                   at::Device device, const SumOverRanks& sum, const OpenExport& open)
      : table_(config.train(), device),
        plan_{config.train().batch(), config.train().accumulation(), sum},
        groups_(parts.quantiser.groups()),
        reconstruction_(parts.reconstruction),
        perceptual_config_(parts.perceptual),
        gan_(parts.gan) {
    const Scope root(table_);
    network_ = parts.network(root);
    quantiser_ = make_quantiser(parts.quantiser, root / "quantiser", plan_);
    const int64_t width = network_->width(), input = groups_ * quantiser_->input_dim(),
                  inner = groups_ * quantiser_->dim();
    if (parts.always_project || width != inner || width != input) {
      project_in_.emplace(root / "quantiser.in", width, input);
      project_out_.emplace(root / "quantiser.out", inner, network_->decoder_width());
    }
    if (!perceptual_config_.network().empty()) {
      perceptual_.emplace(perceptual_config_.network(), shape, device, table_.kernels(), open);
    }
    generator_count_ = table_.weights().size();
    if (gan_.weight() > 0) {
      discriminator_.emplace(root / "discriminator", gan_, shape);
      check_adaptive_weight(shape.frames);
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
    return phase == 0 ? generator_loss(clips, training) : discriminator_loss(clips);
  }

  std::string unrecordable() const override {
    if (discriminator_ || perceptual_) {
      return "its adversarial and perceptual losses start and change during the run";
    }
    return {};
  }

  void after_update(int64_t images, const at::Tensor& moved) override {
    quantiser_->after_update(images, moved);
  }

  at::Tensor preview(const Clips& clips) override { return reconstruct(clips); }

  at::Tensor reconstruct(const Clips& clips) override {
    return clips_of_latents(latents(clips.x_BTHWC));
  }

  int64_t codes() const override { return quantiser_->codes(); }
  std::array<int64_t, 3> grid(int64_t frames) const override {
    std::array<int64_t, 3> grid = network_->grid(frames);
    grid[2] *= groups_;
    return grid;
  }
  int64_t frames(int64_t steps) const override { return network_->frames(steps); }

  at::Tensor encode(const at::Tensor& x_BTHWC) override {
    const at::NoGradGuard no_grad;
    const at::Tensor ids = quantiser_->quantise(vectors(x_BTHWC), {x_BTHWC, {}}, false).ids;
    LF_CHECK(ids.defined(), "codes of an autoencoder without any");
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
  // [B, t, h, w * groups, dim]
  at::Tensor vectors(const at::Tensor& x_BTHWC) const {
    const at::Tensor features = network_->encode(x_BTHWC);
    const at::Tensor inner = (project_in_ ? (*project_in_)(features) : features).to(at::kFloat);
    return groups_ == 1 ? inner : inner.unflatten(-1, {groups_, -1}).flatten(3, 4);
  }

  at::Tensor clips_of(const at::Tensor& vectors) const {
    const at::Tensor inner =
        groups_ == 1 ? vectors : vectors.unflatten(3, {-1, groups_}).flatten(-2);
    return network_->decode(project_out_ ? (*project_out_)(inner) : inner).to(at::kFloat);
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
    // Validation losses are compared over a run, so they leave out terms that start later or depend
    // on the discriminator.
    if (!training) return out;
    const at::Tensor quality =
        perceptual_ ? reconstruction + add_perceptual(clips, made, out) : reconstruction;
    if (discriminator_) {
      add_adversarial(clips, made, quality, out);
      fakes_[clips.first_position] = discriminator_input(clips, made).detach();
    }
    return out;
  }

  // Returns the term it adds to the loss.
  at::Tensor add_perceptual(const Clips& clips, const at::Tensor& made, Loss& out) const {
    at::Tensor part = at::zeros({}, made.options());
    if (perceptual_config_.weight() > 0 &&
        plan_.first(clips) >= perceptual_config_.start_images()) {
      const at::Tensor real =
          one_frame(clips, clips.x_BTHWC, perceptual_config_.last_frame(), kPerceptualFrame);
      part = perceptual_config_.weight() *
             (*perceptual_)(
                 real, one_frame(clips, made, perceptual_config_.last_frame(), kPerceptualFrame));
      out.total = out.total + part;
    }
    out.terms.push_back({"perceptual", part.detach()});
    return part;
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

  // By the position of the step's first clip, so that it is the same on every rank.
  double adversarial_weight(const Clips& clips) const {
    const auto past = static_cast<double>(plan_.first(clips) - gan_.start_images());
    if (past < 0) return 0;
    const auto ramp = static_cast<double>(gan_.ramp_images());
    return gan_.weight() * (ramp > 0 ? std::min(1.0, past / ramp) : 1.0);
  }

  void check_adaptive_weight(int64_t frames) const {
    if (gan_.adaptive_limit() == 0) return;
    for (const at::Tensor& weight : network_->last_weights(frames)) {
      if (weight.requires_grad()) continue;
      fail(Code::kUsage,
           "gan.adaptive_limit compares gradients of the output layer, which train.freeze or "
           "train.lora freezes; set gan.adaptive_limit=0, or train that layer");
    }
  }

  // `quality`: the reconstruction and perceptual losses.
  void add_adversarial(const Clips& clips, const at::Tensor& made, const at::Tensor& quality,
                       Loss& out) {
    const double weight = adversarial_weight(clips);
    at::Tensor fooled = at::zeros({}), ratio = at::ones({});
    if (weight > 0) {
      fooled = -(*discriminator_)(discriminator_input(clips, made)).mean();
      // Linearised in the clips, with the same gradient: backward through the discriminator then
      // runs once, not for the adaptive weight and again for the loss.
      const at::Tensor gradient = torch::autograd::grad({fooled}, {made})[0];
      const at::Tensor linear = (made * gradient).sum();
      fooled = fooled.detach() + (linear - linear.detach());
      ratio = ratio.to(fooled.device());
      if (gan_.adaptive_limit() > 0) {
        ratio = adaptive_weight(quality, fooled, network_->last_weights(clips.x_BTHWC.size(1)),
                                gan_.adaptive_limit(), plan_.sum);
      }
      out.total = out.total + weight * ratio * fooled;
    }
    out.terms.push_back({"adversarial", fooled.detach()});
    out.terms.push_back({"adversarial_weight", weight * ratio});
  }

  Loss discriminator_loss(const Clips& clips) {
    const bool penalised = gan_.r1() > 0 && plan_.first(clips) / plan_.clips % gan_.r1_every() == 0;
    const at::Tensor real = discriminator_input(clips, clips.x_BTHWC);
    if (penalised && !real.requires_grad()) real.requires_grad_();
    // Two passes: the gradients of the last bias then cancel to the last bit while no hinge is
    // reached; Adam would blow up what rounding leaves in a joint pass. The penalty uses the first
    // pass.
    const at::Tensor logits = penalised ? exact_logits(real) : (*discriminator_)(real);
    const at::Tensor hinge = hinge_loss(logits, (*discriminator_)(fake_of(clips)));
    Loss out{hinge, {{"discriminator", hinge.detach()}}};
    if (gan_.r1() == 0) return out;
    at::Tensor penalty = at::zeros({});
    if (penalised) {
      penalty = r1_penalty(logits, real);
      out.total = out.total + gan_.r1() * gan_.r1_every() * penalty;
    }
    out.terms.push_back({"r1", penalty.detach()});
    return out;
  }

  // fp32 under autocast too, for the second-order gradients of R1.
  at::Tensor exact_logits(const at::Tensor& real) const {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    return (*discriminator_)(real);
  }

  // The reconstructions of the generator's phase, from before its update: another forward pass
  // would cost as much as the whole discriminator phase.
  at::Tensor fake_of(const Clips& clips) {
    if (auto kept = fakes_.extract(clips.first_position)) return std::move(kept.mapped());
    const at::NoGradGuard no_grad;
    return discriminator_input(
        clips, clips_of(quantiser_->quantise(vectors(clips.x_BTHWC), clips, false).z));
  }

  // The frames of these clips that the discriminator gets in this step.
  at::Tensor discriminator_input(const Clips& clips, const at::Tensor& x_BTHWC) const {
    return one_frame(clips, x_BTHWC, gan_.last_frame(), kAdversarialFrame);
  }

  // One frame of each clip, [B, C, H, W]: with probability `last` the last, else a uniform draw.
  static at::Tensor one_frame(const Clips& clips, const at::Tensor& x_BTHWC, double last,
                              uint32_t stream) {
    const int64_t frames = x_BTHWC.size(1);
    if (frames == 1) return frames_as_images(x_BTHWC);
    const at::Tensor draws = keyed_uniform(clips, Purpose::kFrameChoice, stream, {2});
    const at::Tensor any = (draws.select(1, 1) * static_cast<double>(frames)).to(at::kLong);
    const at::Tensor frame = any.masked_fill(draws.select(1, 0) < last, frames - 1);
    const at::Tensor which =
        frame.view({-1, 1, 1, 1, 1})
            .expand({-1, 1, x_BTHWC.size(2), x_BTHWC.size(3), x_BTHWC.size(4)});
    return frames_as_images(x_BTHWC.gather(1, which));
  }

  ParameterTable table_;
  BatchPlan plan_;
  int64_t groups_;  // codes of a grid cell
  ReconstructionConfig reconstruction_;
  PerceptualConfig perceptual_config_;
  GanConfig gan_;
  std::unique_ptr<TokenNetwork> network_;
  std::unique_ptr<Quantiser> quantiser_;
  std::optional<Linear> project_in_, project_out_;
  std::optional<PerceptualLoss> perceptual_;
  std::optional<Discriminator> discriminator_;
  std::map<int64_t, at::Tensor> fakes_;  // by first position, from one phase of a step to the next
  size_t generator_count_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_token_autoencoder(const TokenParts& parts, const Config& config,
                                                  const ClipShape& shape, at::Device device,
                                                  const SumOverRanks& sum, const OpenExport& open) {
  return std::make_unique<TokenAutoencoder>(parts, config, shape, device, sum, open);
}

}  // namespace lf
