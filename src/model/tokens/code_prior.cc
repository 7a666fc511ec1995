#include "model/tokens/code_prior.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <numbers>

#include "base/error.h"
#include "model/tokens/prior_sampling.h"
#include "model/tokens/tokenizer.h"

namespace lf {
namespace {

// A tokenizer that has codes.
std::unique_ptr<Tokenizer> open_coder(const std::string& file, const ClipShape& shape,
                                      at::Device device, const KernelChoice& kernels,
                                      const OpenExport& open) {
  std::unique_ptr<Tokenizer> tokenizer =
      open_tokenizer(file, "model.code_prior.tokenizer", shape, device, kernels, open);
  if (tokenizer->codes() == 0) {
    fail(Code::kUsage, printable(file),
         " has vectors and no codes (quantiser.variational); a prior needs a tokenizer with "
         "codes, diffusion (model.diffusion.tokenizer) takes this one");
  }
  return tokenizer;
}

class CodePrior : public Model {
 public:
  CodePrior(const Config& config, const ClipShape& shape, at::Device device, const OpenExport& open)
      : config_(config.model().code_prior()),
        frames_(shape.frames),
        table_(config.train(), device),
        tokenizer_(open_coder(config_.tokenizer(), shape, device, table_.kernels(), open)),
        network_(Scope(table_), config_, tokenizer_->grid(frames_), tokenizer_->codes()) {
    const ParameterTable& fixed = tokenizer_->parameters();
    for (const auto* list : {&fixed.weights(), &fixed.buffers()}) {
      for (const NamedTensor& named : *list) table_.buffer("tokenizer." + named.name, named.tensor);
    }
    overlap_ = config_.overlap_frames();
    if (overlap_ == 0) overlap_ = tokenizer_->frames(std::max<int64_t>(1, network_.grid()[0] / 2));
    tokenizer_->grid(overlap_);  // throws on lengths that cannot be encoded
  }

  const ParameterTable& parameters() const override { return table_; }
  std::vector<Phase> phases() const override { return {{"prior", table_.weights()}}; }

  Loss loss(const Clips& clips, size_t /*phase*/, bool training) override {
    const at::Tensor ids = codes_of(clips.x_BTHWC).flatten(1);
    const at::Tensor begin = network_.begin(labels_for_training(clips, training));
    const at::Tensor loss = config_.kind() == CodePriorConfig::AUTOREGRESSIVE
                                ? next_code_loss(begin, ids)
                                : masked_loss(begin, ids, clips);
    return {loss, {}};
  }

  std::string unrecordable() const override { return {}; }

  at::Tensor preview(const Clips& clips) override {
    SampleRequest request;
    request.seed = clips.seed;
    request.count = clips.size();
    request.labels_B = clips.labels_B;
    return sample(request);
  }

  at::Tensor sample(const SampleRequest& request) override {
    const at::NoGradGuard no_grad;
    const at::Device device = table_.weights().front().tensor.device();
    const int64_t frames = request.frames > 0 ? request.frames : frames_;
    if (frames > frames_ && overlap_ >= frames_) {
      fail(Code::kUsage, "clips of ", frames, " frames are requested, and a prior over clips of ",
           frames_, " cannot continue from the last ", overlap_,
           " of them; give fewer frames, or a smaller model.code_prior.overlap_frames");
    }
    const Clips key{
        at::empty({request.count, 0}, at::TensorOptions(device)), {}, request.seed, request.first};
    const at::Tensor labels = labels_to_sample(request, key);
    at::Tensor x = request.given_BTHWC;
    check_given(request);
    for (uint32_t window = 0; !x.defined() || x.size(1) < frames; ++window) {
      const int64_t have = x.defined() ? x.size(1) : 0;
      const int64_t context = have < frames_ && window == 0 ? have : overlap_;
      const at::Tensor known = context > 0 ? codes_of(x.slice(1, -context)) : at::Tensor();
      const at::Tensor made =
          tokenizer_->decode(generate_codes(network_, config_, labels, known, key, window));
      x = context > 0 ? at::cat({x, made.slice(1, context)}, 1) : made;
    }
    return x.slice(1, 0, frames);
  }

 private:
  // fp32 under autocast too: rounding would change the codes.
  at::Tensor codes_of(const at::Tensor& x_BTHWC) const {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    return tokenizer_->encode(x_BTHWC);
  }

  // A prior makes the next codes, so it can keep the first frames only.
  static void check_given(const SampleRequest& request) {
    for (size_t i = 0; i < request.given_frames.size(); ++i) {
      if (request.given_frames[i] == static_cast<int64_t>(i)) continue;
      fail(Code::kUsage, "frame ", request.given_frames[i],
           " is given without those before it, and a prior continues from the first frames; give "
           "0, 1, ... in a row");
    }
  }

  void check_labels(int64_t largest) const {
    if (largest >= config_.classes()) {
      fail(Code::kUsage, "there is a label ", largest, ", but model.code_prior.classes is ",
           config_.classes(), "; give one more than the largest label");
    }
  }

  at::Tensor labels_for_training(const Clips& clips, bool training) const {
    const at::Tensor none = at::full_like(clips.labels_B, -1);
    if (config_.classes() == 0) return none;
    chosen_on_host(clips, [this](const Clips& keys) {
      if (keys.size() > 0) check_labels(label_range(keys)[1]);
      return std::vector<at::Tensor>{};
    });
    if (!training) return clips.labels_B;
    const at::Tensor draw = keyed_uniform(clips, Purpose::kDropout, 0, {});
    return at::where(draw < config_.label_dropout(), none, clips.labels_B);
  }

  at::Tensor labels_to_sample(const SampleRequest& request, const Clips& key) const {
    const at::TensorOptions integers = key.x_BTHWC.options().dtype(at::kLong);
    if (config_.classes() == 0) return at::full({request.count}, -1, integers);
    if (request.labels_B.defined()) {
      if (request.labels_B.numel() > 0) check_labels(request.labels_B.max().item<int64_t>());
      return request.labels_B;
    }
    const at::Tensor draw = keyed_uniform(key, Purpose::kGenerated, 0, {});
    return (draw * static_cast<double>(config_.classes())).to(at::kLong);
  }

  at::Tensor next_code_loss(const at::Tensor& begin, const at::Tensor& ids) const {
    const at::Tensor tokens = at::cat({begin, network_.embed(ids.slice(1, 0, -1), 0)}, 1);
    const at::Tensor logits = network_.logits(tokens, network_.causal_mask(tokens.size(1)));
    return at::cross_entropy_loss(logits.flatten(0, 1), ids.flatten());
  }

  // Masks some codes of each clip and predicts them from the others. FRAME_MASKED masks codes of
  // one frame, and predicts them from that frame and those before.
  at::Tensor masked_loss(const at::Tensor& begin, const at::Tensor& ids, const Clips& clips) const {
    const bool by_frame = config_.kind() == CodePriorConfig::FRAME_MASKED;
    const int64_t positions = network_.positions();
    const int64_t group = by_frame ? positions / network_.grid()[0] : positions;
    const at::Tensor draw = keyed_uniform(clips, Purpose::kMasking, 0, {group + 1});
    const at::Tensor count =  // [B, 1], at least one
        (at::cos(draw.slice(1, group) * (std::numbers::pi / 2)) * static_cast<double>(group))
            .ceil()
            .clamp(1, group);
    const at::Tensor rank = draw.slice(1, 0, group).argsort(1, false).argsort(1, false);
    const int64_t groups = positions / group;
    at::Tensor hidden = (rank < count).repeat({1, groups});
    at::Tensor mask;
    if (by_frame) {
      const at::Tensor chosen =
          (keyed_uniform(clips, Purpose::kFrameChoice, 0, {1}) * static_cast<double>(groups))
              .to(at::kLong);
      const at::Tensor frame = at::arange(positions, ids.options()).floor_divide(group);
      hidden = hidden.logical_and(frame == chosen);
      mask = network_.frame_mask(positions + 1);
    }
    const at::Tensor masked = ids.masked_fill(hidden, network_.mask());
    const at::Tensor tokens = at::cat({begin, network_.embed(masked, 0)}, 1);
    const at::Tensor logits = network_.logits(tokens, mask).slice(1, 1);
    const at::Tensor loss =
        at::cross_entropy_loss(logits.flatten(0, 1), ids.flatten(), {}, at::Reduction::None, -100,
                               config_.label_smoothing())
            .view_as(ids);
    // Equal weight for each clip, however many of its codes were masked.
    return ((loss * hidden).sum(1, true) / count).mean();
  }

  CodePriorConfig config_;
  int64_t frames_, overlap_ = 0;
  ParameterTable table_;
  std::unique_ptr<Tokenizer> tokenizer_;
  PriorNetwork network_;
};

}  // namespace

std::unique_ptr<Model> make_code_prior(const Config& config, const ClipShape& shape,
                                       at::Device device, const OpenExport& open) {
  return std::make_unique<CodePrior>(config, shape, device, open);
}

}  // namespace lf
