#include "model/denoisers/diffusion_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <algorithm>

#include "base/error.h"
#include "model/denoisers/dit.h"
#include "model/denoisers/frame_batch.h"
#include "model/denoisers/unet.h"
#include "model/denoisers/unet3d.h"
#include "model/refills.h"

namespace lf {
namespace {

// Does the recipe add noise? Then all frames but the last exceed [-1, 1].
bool adds_noise(const RecipeConfig& recipe) {
  if (recipe.has_noise() || recipe.blur().noise() > 0 || recipe.heat().noise() > 0) return true;
  const auto& parts = recipe.composite().operators();
  return std::any_of(parts.begin(), parts.end(), [](const OperatorConfig& part) {
    return part.has_noise() || part.blur().noise() > 0 || part.heat().noise() > 0;
  });
}

std::unique_ptr<Denoiser> make_network(const ModelConfig& config, const DenoiserShape& shape,
                                       const Scope& scope) {
  if (config.has_unet()) return make_unet(config.unet(), shape, scope);
  if (config.has_dit()) return make_dit(config.dit(), shape, scope);
  LF_CHECK(config.has_unet3d(), "not a diffusion network");
  return make_unet3d(config.unet3d(), shape, scope);
}

void check_options(const DiffusionConfig& config, const NoiseSchedule& schedule) {
  if (config.learned_variance() && schedule.steps() == 0) {
    fail(Code::kUsage,
         "model.diffusion.learned_variance needs a schedule of discrete steps; leave it out, or "
         "choose LINEAR, SCALED_LINEAR or COSINE");
  }
  if (config.sampler().guidance() != 1 && config.classes() == 0 && config.text().empty()) {
    fail(Code::kUsage, "model.diffusion.sampler.guidance is ", config.sampler().guidance(),
         ", and the model has neither classes nor text to guide by; set model.diffusion.classes, "
         "or leave it 1");
  }
  if (config.tokenizer().empty()) return;
  if (config.learned_variance()) {
    fail(Code::kUsage,
         "model.diffusion.learned_variance is trained on the bits of grey levels, which latents "
         "(model.diffusion.tokenizer) do not have; leave one of them out");
  }
  if (config.upscale() > 1 || config.frames() == DiffusionConfig::BETWEEN) {
    fail(Code::kUsage, "model.diffusion.", config.upscale() > 1 ? "upscale" : "frames=BETWEEN",
         " works on pixels and frames, model.diffusion.tokenizer on latents; leave one of them "
         "out");
  }
}

// Convolutions over time need the frames of a call to be consecutive frames of one video.
void check_volume(const ModelConfig& config) {
  if (config.unet().temporal() != UnetConfig::VOLUME) return;
  const DiffusionConfig& diffusion = config.diffusion();
  const bool in_a_row = diffusion.frames() != DiffusionConfig::AUTOREGRESSIVE &&
                        diffusion.frames() != DiffusionConfig::FLEXIBLE;
  if (in_a_row && diffusion.images() == 0) return;
  fail(
      Code::kUsage, "model.unet.temporal=VOLUME needs consecutive frames, and ", "model.diffusion.",
      in_a_row
          ? "images adds independent images"
          : "frames=" + DiffusionConfig::Frames_Name(diffusion.frames()) + " has gaps between them",
      "; choose AFTER or RELATIVE");
}

void check_upscale(int factor, const ClipShape& shape) {
  if (shape.height % factor == 0 && shape.width % factor == 0) return;
  fail(Code::kUsage, "model.diffusion.upscale is ", factor, ", which does not divide clips of ",
       shape.height, "x", shape.width, "; choose one that does");
}

void check_side_column(const Config& config) {
  const std::string& text = config.model().diffusion().text();
  const auto& columns = config.loader().side();
  if (text.empty() || std::find(columns.begin(), columns.end(), text) != columns.end()) return;
  fail(Code::kUsage, "model.diffusion.text is ", printable(text),
       ", a side column that is not loaded; name it in loader.side too");
}

}  // namespace

DiffusionModel::DiffusionModel(const Config& config, const ClipShape& clip, at::Device device,
                               const SumOverRanks& sum, const OpenExport& open)
    : table_(config.train(), device),
      config_(config.model().diffusion()),
      clip_(clip),
      device_(device),
      latents_(config_.tokenizer().empty()
                   ? nullptr
                   : std::make_unique<LatentSpace>(config_.tokenizer(), clip, device, open, sum,
                                                   table_)),
      shape_(latents_ ? latents_->shape() : clip),
      window_frames_(0),
      marks_observed_(config.model().unet().mark_observed()),
      clips_last_frame_only_(adds_noise(config.recipe())),
      records_(config.train().graph() == StepGraph::ON),
      schedule_(config_, shape_.height) {
  check_options(config_, schedule_);
  check_volume(config.model());
  check_upscale(config_.upscale(), clip);
  check_side_column(config);
  // Options count frames in pixels; these throw on bad ones.
  window_frames(config_, clip.frames);
  lf::frames_to_give(config_, clip.frames);
  if (latents_ && config_.frames() == DiffusionConfig::PREDICT) {
    config_.set_given(static_cast<int>(latents_->steps(config_.given())));
  }
  window_frames_ = window_frames(config_, shape_.frames);
  sampling_levels(config_.sampler(), schedule_);  // throws on a sampler that does not fit
  DenoiserShape network{shape_,
                        int64_t{shape_.channels} * (config_.learned_variance() ? 2 : 1),
                        config_.classes(),
                        config_.text().empty() ? 0 : config_.text_width(),
                        config.train().recompute(),
                        !config_.text().empty() && config_.text_tokens() > 0};
  network.clip.frames = static_cast<int>(window_frames_);
  if (config_.upscale() > 1) network.clip.channels *= 2;  // noisy clip and small clip
  network_ = make_network(config.model(), network, Scope(table_));
}

std::vector<int64_t> DiffusionModel::frames_to_give() const {
  DiffusionConfig config = config_;
  if (latents_ && config.frames() == DiffusionConfig::PREDICT) {
    config.set_given(static_cast<int>(latents_->frames(config.given())));
  }
  return lf::frames_to_give(config, clip_.frames);
}

// The low-resolution clip of super-resolution.
at::Tensor DiffusionModel::downsampled(const at::Tensor& x_BTHWC) const {
  const int64_t factor = config_.upscale();
  return images_as_frames(at::avg_pool2d(frames_as_images(x_BTHWC), factor), x_BTHWC.size(1));
}

// A small clip as an input of the network, with noise augmentation if `noise` is defined.
at::Tensor DiffusionModel::upsampled(const at::Tensor& small_BTHWC, const at::Tensor& noise) const {
  const at::Tensor small =
      noise.defined() ? small_BTHWC + config_.upscale_noise() * noise : small_BTHWC;
  return images_as_frames(
      at::upsample_nearest2d(frames_as_images(small), {shape_.height, shape_.width}),
      small.size(1));
}

// The network's output for z, in fp32.
at::Tensor DiffusionModel::run_network(const NoisyClips& clips, const at::Tensor& z,
                                       const at::Tensor& scale, const at::Tensor& small) const {
  NoisyClips inputs = clips;
  inputs.z_BTHWC = config_.prediction() == DiffusionConfig::PRECONDITIONED ? scale * z : z;
  if (small.defined()) inputs.z_BTHWC = at::cat({inputs.z_BTHWC, small}, -1);
  return (*network_)(inputs).to(at::kFloat);
}

// The indices of the windows' frames: a row for each clip, or one row for all.
static at::Tensor indices_of(const std::vector<FrameWindow>& windows, int64_t clips) {
  std::vector<int64_t> indices;
  for (const FrameWindow& window : windows) {
    indices.insert(indices.end(), window.index.begin(), window.index.end());
  }
  const auto count = static_cast<int64_t>(windows.size());
  const at::Tensor rows = at::tensor(indices, at::kLong).view({count, -1});
  return count == 1 ? rows : rows.repeat_interleave(clips / count, 0);
}

Estimate DiffusionModel::estimate(const at::Tensor& z_BTHWC,
                                  const std::vector<FrameWindow>& windows,
                                  const std::vector<NoiseLevel>& levels,
                                  const Conditioning& conditioning) const {
  const FrameWindow& window = windows.front();
  FrameBatch frames(1, at::kCPU);
  for (size_t i = 0; i < levels.size(); ++i) {
    frames.add({window.index[i], window.role[i], levels[i],
                preconditioning(config_.prediction(), levels[i], config_.sigma_data()), 0});
  }
  const auto factors = [&](const auto& of) { return frames.factors(of); };
  const std::vector<at::Tensor> on_device = uploaded(
      {frames.values([&](const BatchFrame& frame) { return schedule_.signal(frame.level); }),
       indices_of(windows, z_BTHWC.size(0)),
       frames.any_outside_video() || marks_observed_ ? frames.roles() : at::Tensor(),
       factors([](const BatchFrame& frame) { return frame.scaling.in; }),
       factors([](const BatchFrame& frame) { return frame.scaling.skip; }),
       factors([](const BatchFrame& frame) { return frame.scaling.out; })},
      z_BTHWC.device());
  std::vector<at::Tensor> inputs = {z_BTHWC, conditioning.labels_B, conditioning.text,
                                    conditioning.small_BTHWC};
  inputs.insert(inputs.end(), on_device.begin(), on_device.end());
  const std::vector<at::Tensor> outputs =
      replays_ ? (*replays_)(inputs) : estimate_on_device(inputs);
  return {outputs[0], outputs[1]};
}

// The part of estimate() that a recorded step replays: tensors on the device in and out.
std::vector<at::Tensor> DiffusionModel::estimate_on_device(
    const std::vector<at::Tensor>& inputs) const {
  const at::Tensor &z = inputs[0], &skip = inputs[8], &out = inputs[9];
  NoisyClips clips;
  clips.labels_B = inputs[1];
  clips.text = inputs[2];
  clips.signal_BT = inputs[4].expand({z.size(0), -1});
  clips.index_BT = inputs[5];
  clips.role_BT = inputs[6];
  const at::Tensor output = run_network(clips, z, inputs[7], inputs[3]);
  const int64_t channels = shape_.channels;
  return {skip * z + out * output.slice(-1, 0, channels),
          config_.learned_variance() ? (output.slice(-1, channels) + 1) / 2 : at::Tensor()};
}

}  // namespace lf
