// The loss of a DiffusionModel. Each clip's window, noise levels and weights are drawn on the host
// by its keys; the rest is computed on the device.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "diffusion/prediction.h"
#include "diffusion/variational.h"
#include "model/denoisers/diffusion_model.h"
#include "model/denoisers/frame_batch.h"

namespace lf {

// One row per clip; T counts the frames of its window, then its independent images.
struct DiffusionModel::LossInputs {
  NoisyClips network;   // the network's inputs except the noisy frames
  at::Tensor frame_BT;  // int64, index into the frames of the batch; undefined: all, in order
  at::Tensor alpha, sigma, in, skip, out, image, noise;  // [B, T, 1, 1, 1]
  at::Tensor weight, share;                              // [B, T]: weight of each frame; its share
  VariationalSteps steps;                                // undefined without learned_variance

  // All tensors, in a fixed order.
  std::vector<at::Tensor*> tensors() {
    return {&network.signal_BT,
            &network.index_BT,
            &network.role_BT,
            &frame_BT,
            &alpha,
            &sigma,
            &in,
            &skip,
            &out,
            &image,
            &noise,
            &weight,
            &share,
            &steps.from_image,
            &steps.least,
            &steps.most,
            &steps.first};
  }
};

namespace {

// Streams of a clip's draws under Purpose::kDiffusionTime.
enum Choice : uint32_t { kUniformTime, kNormalTime, kWindow, kConditionDropout };

// A clip's keyed draws, on the host: normal for kNormalTime, else uniform.
std::vector<float> draws_of(const Clips& clips, int64_t clip, Choice choice, int64_t count) {
  std::vector<float> draws(static_cast<size_t>(count));
  const Stream stream{clips.seed, Purpose::kDiffusionTime,
                      static_cast<uint64_t>(clips.first_position + clip), choice, 0};
  (choice == kNormalTime ? normal : uniform)(stream, 0, draws.size(), draws.data());
  return draws;
}

// The uniform draws that choose a clip's window, as many as needed.
Uniforms window_draws(const Clips& clips, int64_t clip) {
  const Stream stream{clips.seed, Purpose::kDiffusionTime,
                      static_cast<uint64_t>(clips.first_position + clip), kWindow, 0};
  return [stream, next = uint64_t{0}]() mutable {
    float draw = 0;
    uniform(stream, next++, 1, &draw);
    return static_cast<double>(draw);
  };
}

// Adds the window of one clip and its `images` independent images.
void add_frames(const DiffusionConfig& config, const NoiseSchedule& schedule, int64_t frames,
                int64_t images, const Clips& clips, int64_t clip, FrameBatch& batch) {
  FrameWindow window = training_window(config, frames, window_draws(clips, clip));
  const size_t in_video = window.index.size();
  window.index.insert(window.index.end(), static_cast<size_t>(images), frames - 1);
  window.role.insert(window.role.end(), static_cast<size_t>(images), FrameRole::kImage);
  const auto count = static_cast<int64_t>(window.index.size());
  const std::vector<float> uniforms = draws_of(clips, clip, kUniformTime, count),
                           normals = draws_of(clips, clip, kNormalTime, count);
  for (size_t i = 0; i < window.index.size(); ++i) {
    BatchFrame frame{window.index[i], window.role[i], {}, {}, 0};
    if (frame.role == FrameRole::kLatent || frame.role == FrameRole::kImage) {
      // Frames of a video share a noise level unless level_per_frame; images have their own.
      const size_t own = i >= in_video || config.level_per_frame() ? i : 0;
      frame.level = schedule.training_level(uniforms[own], normals[own]);
      const bool last = i < in_video && frame.index == frames - 1;
      frame.share = last ? config.last_frame_weight() : 1;
    }
    frame.scaling = preconditioning(config.prediction(), frame.level, config.sigma_data());
    batch.add(frame);
  }
}

// Is the last frame of every window the clip's last frame, and latent?
bool ends_with_last_frame(DiffusionConfig::Frames frames) {
  return frames == DiffusionConfig::JOINT || frames == DiffusionConfig::LAST ||
         frames == DiffusionConfig::PREDICT;
}

void check_labels(const Clips& clips, int64_t classes) {
  const int64_t largest = clips.size() == 0 ? -1 : label_range(clips)[1];
  if (largest < classes) return;
  fail(Code::kUsage, "there is a label ", largest, ", but model.diffusion.classes is ", classes,
       "; give one more than the largest label");
}

// The texts of a batch, [B, E] or of tokens [B, L, E].
at::Tensor text_of(const at::Tensor& column, const DiffusionConfig& config) {
  const int64_t tokens = config.text_tokens(), width = config.text_width();
  if (column.size(1) == std::max<int64_t>(tokens, 1) * width) {
    return tokens > 0 ? column.view({-1, tokens, width}) : column;
  }
  if (tokens > 0) {
    fail(Code::kUsage, "side column ", printable(config.text()), " has ", column.size(1),
         " values a clip, model.diffusion.text_tokens is ", tokens, " and text_width ", width,
         "; set them to factors of that");
  }
  fail(Code::kUsage, "side column ", printable(config.text()), " has ", column.size(1),
       " values a clip, model.diffusion.text_width is ", width, "; set it to that");
}

}  // namespace

DiffusionModel::LossInputs DiffusionModel::loss_inputs(const Clips& clips) const {
  const std::vector<at::Tensor> chosen = chosen_on_host(clips, [this](const Clips& keys) {
    LossInputs in = loss_inputs_on_host(keys);
    std::vector<at::Tensor> tensors;
    for (const at::Tensor* tensor : in.tensors()) tensors.push_back(*tensor);
    return tensors;
  });
  LossInputs in;
  const std::vector<at::Tensor*> tensors = in.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) *tensors[i] = chosen[i];
  return in;
}

DiffusionModel::LossInputs DiffusionModel::loss_inputs_on_host(const Clips& clips) const {
  if (config_.classes() > 0 && clips.labels_B.defined()) check_labels(clips, config_.classes());
  const int64_t rows = clips.size();
  const int64_t images = clips.images_BNHWC.defined() ? clips.images_BNHWC.size(1) : 0;
  FrameBatch batch(rows, at::kCPU);
  for (int64_t clip = 0; clip < rows; ++clip) {
    add_frames(config_, schedule_, shape_.frames, images, clips, clip, batch);
  }
  const auto factors = [&](const auto& of) { return batch.factors(of); };
  LossInputs in;
  in.network.signal_BT =
      batch.values([&](const BatchFrame& frame) { return schedule_.signal(frame.level); });
  in.network.index_BT = batch.indices();
  // Are windows drawn for each clip? Then they differ, and some frames may be absent.
  const bool drawn = config_.frames() == DiffusionConfig::AUTOREGRESSIVE ||
                     config_.frames() == DiffusionConfig::FLEXIBLE;
  if (!drawn) in.network.index_BT = in.network.index_BT.slice(0, 0, 1);
  if (drawn || images > 0 || marks_observed_) in.network.role_BT = batch.roles();
  in.alpha = factors([](const BatchFrame& frame) {
    return frame.role == FrameRole::kAbsent ? 0 : frame.level.alpha;
  });
  in.sigma = factors([](const BatchFrame& frame) { return frame.level.sigma; });
  in.in = factors([](const BatchFrame& frame) { return frame.scaling.in; });
  in.skip = factors([](const BatchFrame& frame) { return frame.scaling.skip; });
  in.out = factors([](const BatchFrame& frame) { return frame.scaling.out; });
  in.image = factors([](const BatchFrame& frame) { return frame.scaling.image; });
  in.noise = factors([](const BatchFrame& frame) { return frame.scaling.noise; });
  in.share = batch.values([](const BatchFrame& frame) { return frame.share; });
  in.weight = batch.values([&](const BatchFrame& frame) {
    return frame.share > 0 ? frame.share * loss_weight(config_, frame.level) : 0;
  });
  std::vector<int64_t> frames;
  std::vector<int> steps;
  for (size_t i = 0; i < batch.frames().size(); ++i) {
    const BatchFrame& frame = batch.frames()[i];
    const int64_t clip = static_cast<int64_t>(i) / (window_frames_ + images);
    if (frame.role != FrameRole::kImage) {
      frames.push_back(clip * shape_.frames + std::max<int64_t>(0, frame.index));
    }
    steps.push_back(
        std::max(0, static_cast<int>(std::lround(frame.level.time * schedule_.steps())) - 1));
  }
  if (window_frames_ != shape_.frames || config_.frames() == DiffusionConfig::FLEXIBLE) {
    in.frame_BT = at::tensor(frames, at::kLong);
  }
  if (config_.learned_variance()) {
    in.steps = variational_steps(schedule_, steps, in.alpha.sizes(), at::kCPU);
  }
  return in;
}

// Windows and independent images without noise, in pixels or latents.
at::Tensor DiffusionModel::clean_frames(const Clips& clips, const LossInputs& in) const {
  at::Tensor x = latents_ ? latents_->encode(clips.x_BTHWC) : clips.x_BTHWC;
  if (in.frame_BT.defined()) {
    x = x.flatten(0, 1).index_select(0, in.frame_BT).unflatten(0, {clips.size(), window_frames_});
  }
  if (!clips.images_BNHWC.defined()) return x;
  return at::cat({x, latents_ ? latents_->encode_images(clips.images_BNHWC) : clips.images_BNHWC},
                 1);
}

// Labels and text; in training dropped for some clips (classifier-free guidance).
Conditioning DiffusionModel::conditioning_of(const Clips& clips, bool training) const {
  Conditioning out;
  if (config_.classes() > 0 && clips.labels_B.defined()) {
    out.labels_B = clips.labels_B;
  }
  for (const NamedTensor& column : clips.side) {
    if (column.name != config_.text()) continue;
    out.text = text_of(column.tensor, config_);
  }
  const bool any = out.labels_B.defined() || out.text.defined();
  if (!training || !any || config_.condition_dropout() == 0) return out;
  const at::Tensor keep = chosen_on_host(clips, [this](const Clips& keys) {
    std::vector<uint8_t> kept;
    for (int64_t clip = 0; clip < keys.size(); ++clip) {
      const float draw = draws_of(keys, clip, kConditionDropout, 1)[0];
      kept.push_back(draw >= config_.condition_dropout() ? 1 : 0);
    }
    return std::vector<at::Tensor>{at::tensor(kept, at::kByte) > 0};
  })[0];
  if (out.labels_B.defined()) out.labels_B = out.labels_B.masked_fill(keep.logical_not(), -1);
  if (out.text.defined()) {
    out.text = out.text * (out.text.dim() == 2 ? keep.unsqueeze(1) : keep.view({-1, 1, 1}));
  }
  return out;
}

Loss DiffusionModel::loss(const Clips& clips, size_t /*phase*/, bool training) {
  if (latents_ && training) latents_->measure(clips.x_BTHWC);
  LossInputs in = loss_inputs(clips);
  const at::Tensor x = clean_frames(clips, in);
  const at::Tensor noise = keyed_normal(clips, Purpose::kDiffusionNoise, 0, x.sizes().slice(1));
  const at::Tensor z = in.alpha * x + in.sigma * noise;
  const Conditioning conditioning = conditioning_of(clips, training);
  at::Tensor small;
  if (config_.upscale() > 1) {
    small = downsampled(x);
    small = upsampled(small,
                      config_.upscale_noise() > 0
                          ? keyed_normal(clips, Purpose::kDiffusionNoise, 1, small.sizes().slice(1))
                          : at::Tensor());
  }
  in.network.labels_B = conditioning.labels_B;
  in.network.text = conditioning.text;
  if (training) in.network.keys = &clips;
  const at::Tensor output = run_network(in.network, z, in.in, small);

  const at::Tensor target = in.image * x + in.noise * noise;
  const at::Tensor error =
      errors_of(config_, output.slice(-1, 0, shape_.channels) - target).mean({2, 3, 4});
  const at::Tensor shares = in.share.sum(1);
  Loss out{((error * in.weight).sum(1) / shares).mean(), {}};
  out.terms.push_back({"denoising", out.total.detach()});
  if (shape_.frames > 1 && ends_with_last_frame(config_.frames())) {
    out.terms.push_back({"last_frame", error.select(1, window_frames_ - 1).mean().detach()});
  }
  if (config_.learned_variance()) {
    const at::Tensor bits = learned_variance_bits(in, x, z, output).mean({2, 3, 4});
    const at::Tensor bound = ((bits * in.share).sum(1) / shares).mean() * schedule_.steps();
    out.terms.push_back({"bits", bound.detach()});
    out.total = out.total + bound / 1000;
  }
  return out;
}

// The variational bound trains the variance only: the mean is detached.
at::Tensor DiffusionModel::learned_variance_bits(const LossInputs& in, const at::Tensor& x,
                                                 const at::Tensor& z,
                                                 const at::Tensor& output) const {
  const int64_t channels = shape_.channels;
  const at::Tensor image = in.skip * z + in.out * output.slice(-1, 0, channels).detach();
  return step_bits(in.steps, x, {image, (output.slice(-1, channels) + 1) / 2});
}

}  // namespace lf
