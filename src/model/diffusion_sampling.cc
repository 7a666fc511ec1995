// The making of clips by a DiffusionModel: window by window, each by the sampler, with what is
// given kept as it is.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/error.h"
#include "diffusion/guidance.h"
#include "model/diffusion_model.h"

namespace lf {

struct DiffusionModel::Making {
  Clips keys;  // seed and positions of the clips
  Shown shown;
  at::Tensor video;             // [B, T, H, W, C]
  FrameWindow window;           // of the video, the one being made
  at::Tensor observed, latent;  // places of the window, int64
  at::Tensor given;             // the frames at the observed places
  uint32_t draws = 0;           // of noise so far

  at::Tensor noise(int64_t frames) {
    std::vector<int64_t> shape = video.sizes().slice(1).vec();
    shape[0] = frames;
    return keyed_normal(keys, Purpose::kSampling, draws++, shape);
  }
};

// The classes asked for, or drawn by the clips' keys; undefined for a model without classes.
static at::Tensor labels_of(const SampleRequest& request, const Clips& keys, int64_t classes) {
  if (classes == 0) return {};
  if (request.labels_B.defined()) return request.labels_B.to(keys.x_BTHWC.device());
  const at::Tensor luck = keyed_uniform(keys, Purpose::kSampling, UINT32_MAX, {1});
  return (luck.squeeze(1) * static_cast<double>(classes)).to(at::kLong).clamp_max(classes - 1);
}

at::Tensor DiffusionModel::sample(const SampleRequest& request) {
  const at::NoGradGuard no_grad;
  const int64_t given = request.given_BTHWC.defined() ? request.given_BTHWC.size(1) : 0;
  const int64_t wanted = request.frames > 0 ? request.frames : shape_.frames;
  if (given > wanted) {
    fail(Code::kUsage, given, " frames are given and ", wanted,
         " wanted, the given ones included; expected no fewer");
  }
  const std::vector<FrameWindow> windows = sampling_windows(config_, shape_.frames, given, wanted);
  int64_t frames = wanted;
  for (const FrameWindow& window : windows) frames = std::max(frames, window.index.back() + 1);

  Making making;
  making.keys.x_BTHWC = at::zeros({request.count}, at::TensorOptions().device(device_));
  making.keys.seed = request.seed;
  making.keys.first_position = request.first;
  making.shown.labels_B = labels_of(request, making.keys, config_.classes());
  if (!config_.text().empty()) making.shown.text_BE = request.text_BE;
  making.video = at::zeros({request.count, frames, shape_.height, shape_.width, shape_.channels},
                           at::TensorOptions().device(device_));
  if (given > 0) making.video.slice(1, 0, given).copy_(request.given_BTHWC);
  for (const FrameWindow& window : windows) {
    making.window = window;
    make_window(making);
  }
  making.video.slice(1, given).clamp_(-1, 1);
  return making.video.slice(1, 0, wanted);
}

void DiffusionModel::make_window(Making& making) const {
  const auto tensor_of = [&](const std::vector<int64_t>& numbers) {
    return at::tensor(numbers, at::kLong).to(device_);
  };
  const FrameWindow& window = making.window;
  making.observed = tensor_of(window.places(FrameRole::kObserved));
  making.latent = tensor_of(window.places(FrameRole::kLatent));
  making.given = making.video.index_select(1, tensor_of(window.frames(FrameRole::kObserved)));
  SamplerParts parts;
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    return estimate_given(making, z, level);
  };
  parts.noise = [&] { return making.noise(making.latent.numel()); };
  const at::Tensor made = sample_from_noise(config_.sampler(), schedule_, parts);
  making.video.index_copy_(1, tensor_of(window.frames(FrameRole::kLatent)), made);
}

// The estimate of all frames of the window, towards what is to be shown and away from nothing.
Estimate DiffusionModel::guided_estimate(const Making& making, const at::Tensor& z,
                                         const std::vector<NoiseLevel>& levels) const {
  const double scale = config_.sampler().guidance();
  if (scale == 1) return estimate(z, making.window, levels, making.shown);
  const Estimate without = estimate(z, making.window, levels, {});
  if (scale == 0) return without;
  const Estimate with = estimate(z, making.window, levels, making.shown);
  return {guided(with.image, without.image, scale), with.variance};
}

// The estimate of the latent frames z, the others being given.
Estimate DiffusionModel::estimate_given(Making& making, const at::Tensor& z,
                                        const NoiseLevel& level) const {
  // A network that has met frames without noise among noisy ones is shown the given frames as they
  // are; another meets them at the level of the rest.
  const bool taught = config_.frames() != DiffusionConfig::JOINT || config_.level_per_frame();
  const bool any = making.observed.numel() > 0;
  const bool reconstruct =
      any && !taught && config_.sampler().given() == SamplerConfig::RECONSTRUCT;
  const at::AutoGradMode gradients(reconstruct);
  const at::Tensor latent = reconstruct ? z.detach().clone().set_requires_grad(true) : z;

  std::vector<NoiseLevel> levels(making.window.index.size());
  for (const int64_t place : making.window.places(FrameRole::kLatent)) {
    levels[static_cast<size_t>(place)] = level;
  }
  at::Tensor shown = making.given;
  if (any && !taught) {
    shown = level.alpha * making.given + level.sigma * making.noise(making.observed.numel());
    std::fill(levels.begin(), levels.end(), level);
  }
  std::vector<int64_t> shape = making.video.sizes().vec();
  shape[1] = static_cast<int64_t>(levels.size());
  at::Tensor all = at::zeros(shape, z.options()).index_copy(1, making.latent, latent);
  if (any) all = all.index_copy(1, making.observed, shown);

  const Estimate whole = guided_estimate(making, all, levels);
  Estimate out{whole.image.index_select(1, making.latent), {}};
  if (whole.variance.defined()) out.variance = whole.variance.index_select(1, making.latent);
  if (reconstruct) {
    const at::Tensor made = whole.image.index_select(1, making.observed);
    out.image = towards_given(out.image, made, making.given, latent, level.alpha,
                              config_.sampler().given_weight());
    if (out.variance.defined()) out.variance = out.variance.detach();
  }
  if (!last_frame_only_) return {within_range(out.image, config_.sampler()), out.variance};
  // Of a pseudo video that carries noise, the image alone has a range; it stands last.
  if (making.window.index.back() == shape_.frames - 1) {
    at::Tensor image = out.image.slice(1, -1);
    image = within_range(image, config_.sampler());
    out.image = at::cat({out.image.slice(1, 0, -1), image}, 1);
  }
  return out;
}

at::Tensor DiffusionModel::preview(const Clips& clips) {
  const Shown shown = shown_of(clips, false);
  SampleRequest request{clips.seed, clips.first_position, clips.size(), shown.labels_B, {},
                        0,          shown.text_BE};
  if (config_.frames() == DiffusionConfig::PREDICT) {
    request.given_BTHWC = clips.x_BTHWC.slice(1, 0, config_.given());
  } else if (config_.frames() == DiffusionConfig::LAST) {
    request.given_BTHWC = clips.x_BTHWC.slice(1, 0, shape_.frames - 1);
  }
  return sample(request);
}

}  // namespace lf
