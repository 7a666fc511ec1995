// The making of clips by a DiffusionModel: window by window, each by the sampler, with what is
// given kept as it is.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "diffusion/guidance.h"
#include "model/diffusion_model.h"

namespace lf {

// Layers of Purpose::kSampling beside the sampler's own draws, which count from 0.
constexpr uint32_t kLabelDraw = UINT32_MAX, kSmallDraw = UINT32_MAX - 1;
// From a window's seed to the next one's.
constexpr uint64_t kNextWindow = 0x9e3779b97f4a7c15;
// Clips that go through the network at once where there are windows enough.
constexpr int64_t kTogether = 16;

struct DiffusionModel::Making {
  Clips keys;        // seed and positions of the clips
  Shown shown;       // of all clips, without the small ones
  Shown shown_here;  // of the rows of the windows being made
  at::Tensor video;  // [B, T, H, W, C] of what is diffused, in host memory
  at::Tensor small;  // the small clips as they are shown, of all frames; or undefined
  // Windows of the video that are being made, alike in their roles, and their numbers among all.
  // Tensors of them have rows for all clips of the first, then of the second.
  std::vector<FrameWindow> windows;
  std::vector<size_t> numbers;
  at::Tensor observed, latent;  // places of a window, int64
  at::Tensor given;             // the frames at the observed places
  uint32_t draws = 0;           // of noise for these windows so far

  const FrameWindow& window() const { return windows.front(); }

  // What a clip is made of depends on the clip and the window, not on what is made with it.
  at::Tensor noise(int64_t frames) {
    std::vector<int64_t> shape = video.sizes().slice(1).vec();
    shape[0] = frames;
    std::vector<at::Tensor> rows;
    for (const size_t number : numbers) {
      Clips own = keys;
      own.seed += number * kNextWindow;
      rows.push_back(keyed_normal(own, Purpose::kSampling, draws, shape));
    }
    ++draws;
    return rows.size() == 1 ? rows.front() : at::cat(rows);
  }
  // The frames of one role, of all windows, on the host.
  at::Tensor frames_of(FrameRole role) const {
    std::vector<at::Tensor> rows;
    for (const FrameWindow& one : windows) {
      rows.push_back(video.index_select(1, at::tensor(one.frames(role), at::kLong)));
    }
    return at::cat(rows);
  }
};

namespace {

std::string shape_text(const ClipShape& shape) {
  return str(shape.height, "x", shape.width, "x", shape.channels);
}

void check_size(const at::Tensor& clips_BTHWC, const ClipShape& expected, const char* what) {
  const at::IntArrayRef sizes = clips_BTHWC.sizes();
  if (sizes[2] == expected.height && sizes[3] == expected.width && sizes[4] == expected.channels) {
    return;
  }
  fail(Code::kUsage, what, " are of ", sizes[2], "x", sizes[3], "x", sizes[4],
       ", this model takes ", shape_text(expected));
}

void check_shown(const SampleRequest& request, const DiffusionConfig& config) {
  if (request.labels_B.defined() && request.labels_B.numel() > 0 && config.classes() > 0) {
    const auto largest = request.labels_B.max().item<int64_t>();
    if (largest >= config.classes()) {
      fail(Code::kUsage, "class ", largest, " is asked for, and the model knows ", config.classes(),
           "; expected 0 to ", config.classes() - 1);
    }
  }
  if (!request.text_BE.defined()) return;
  if (config.text().empty()) {
    fail(Code::kUsage,
         "a text is asked for, and the model was trained without any (model.diffusion.text)");
  }
  if (request.text_BE.size(1) != config.text_width() || request.text_BE.size(0) != request.count) {
    fail(Code::kUsage, "texts for ", request.text_BE.size(0), " clips of ", request.text_BE.size(1),
         " numbers are given, expected ", request.count, " of ", config.text_width());
  }
}

// The classes asked for, or drawn by the clips' keys; undefined for a model without classes.
at::Tensor labels_of(const SampleRequest& request, const Clips& keys, int64_t classes) {
  if (classes == 0) return {};
  if (request.labels_B.defined()) return request.labels_B.to(keys.x_BTHWC.device());
  const at::Tensor luck = keyed_uniform(keys, Purpose::kSampling, kLabelDraw, {1});
  return (luck.squeeze(1) * static_cast<double>(classes)).to(at::kLong).clamp_max(classes - 1);
}

// The numbers of the request's given frames.
std::vector<int64_t> given_frames(const SampleRequest& request, const DiffusionConfig& config) {
  const int64_t count = request.given_BTHWC.defined() ? request.given_BTHWC.size(1) : 0;
  std::vector<int64_t> frames = request.given_frames;
  if (frames.empty()) {
    const int64_t apart = config.frames() == DiffusionConfig::BETWEEN ? config.stride() : 1;
    for (int64_t i = 0; i < count; ++i) frames.push_back(i * apart);
  }
  const bool rising =
      std::adjacent_find(frames.begin(), frames.end(), std::greater_equal<>()) == frames.end();
  if (static_cast<int64_t>(frames.size()) == count && rising &&
      (frames.empty() || frames.front() >= 0)) {
    return frames;
  }
  fail(Code::kUsage, count, " frames are given and ", frames.size(),
       " numbers of them; expected as many, rising from 0 or more");
}

int64_t wanted_frames(const SampleRequest& request, const std::vector<int64_t>& given,
                      const DiffusionConfig& config, int64_t trained) {
  if (request.frames > 0) return request.frames;
  if (request.small_BTHWC.defined()) return request.small_BTHWC.size(1);
  if (config.frames() == DiffusionConfig::BETWEEN && !given.empty()) return given.back() + 1;
  return trained;
}

at::Tensor numbers_on(const std::vector<int64_t>& numbers, at::Device device) {
  return at::tensor(numbers, at::kLong).to(device);
}

}  // namespace

// What does not depend on frames.
void DiffusionModel::check(const SampleRequest& request) const {
  check_shown(request, config_);
  if (request.given_BTHWC.defined()) check_size(request.given_BTHWC, clip_, "given frames");
  ClipShape small = clip_;
  small.height /= config_.upscale();
  small.width /= config_.upscale();
  if (config_.upscale() == 1) {
    if (!request.small_BTHWC.defined()) return;
    fail(Code::kUsage,
         "small clips are given to a model that does not make clips larger; train one with "
         "model.diffusion.upscale");
  }
  if (!request.small_BTHWC.defined()) {
    fail(Code::kUsage, "this model makes small clips ", config_.upscale(),
         " times larger, and nothing from nothing; give it small clips of ", shape_text(small));
  }
  check_size(request.small_BTHWC, small, "small clips");
}

at::Tensor DiffusionModel::sample(const SampleRequest& request) {
  const at::NoGradGuard no_grad;
  check(request);
  if (adapts() && request.count > 1) return sample_each(request);
  const std::vector<int64_t> given = given_frames(request, config_);
  const int64_t wanted = wanted_frames(request, given, config_, clip_.frames);
  std::vector<int64_t> there = given;
  if (latents_ && !given.empty()) {
    if (given.back() != static_cast<int64_t>(given.size()) - 1) {
      fail(Code::kUsage,
           "this model works in latents, of which only the first frames can be given");
    }
    there.resize(static_cast<size_t>(latents_->steps(static_cast<int64_t>(given.size()))));
  }
  const int64_t steps = latents_ ? latents_->steps(wanted) : wanted;
  const std::vector<FrameWindow> windows = sampling_windows(config_, shape_.frames, there, steps);
  if (request.small_BTHWC.defined() && request.small_BTHWC.size(1) != wanted) {
    fail(Code::kUsage, "small clips have ", request.small_BTHWC.size(1), " frames, and ", wanted,
         " are wanted; expected as many");
  }
  int64_t frames = steps;
  for (const FrameWindow& window : windows) {
    frames = std::max(frames, *std::max_element(window.index.begin(), window.index.end()) + 1);
  }

  const bool records = replays_wanted_ && replays_ == nullptr;
  if (records) {
    replays_ = std::make_unique<Replays>(
        [this](const std::vector<at::Tensor>& inputs) { return estimated(inputs); });
  }
  // Weights may lie elsewhere next time.
  const std::unique_ptr<void, std::function<void(void*)>> until_made(
      records ? this : nullptr, [this](void*) { replays_.reset(); });
  Making making = making_of(request, frames);
  if (!there.empty()) {
    const at::Tensor& whole = request.given_BTHWC;
    const at::Tensor kept = latents_ ? latents_->encode(whole.to(device_)) : whole;
    making.video.index_copy_(1, at::tensor(there, at::kLong), kept.to(at::kCPU));
  }
  if (adapts()) {
    make_adaptively(making, there, steps, request.distance);
  } else {
    // Other networks take frames for neighbours, or share what they know of their places.
    const bool any_order = config_.frames() == DiffusionConfig::FLEXIBLE;
    const int64_t most = any_order ? std::max<int64_t>(kTogether / request.count, 1) : 1;
    for (std::vector<size_t>& round : rounds_of(windows, static_cast<size_t>(most))) {
      making.windows.clear();
      for (const size_t number : round) making.windows.push_back(windows[number]);
      making.numbers = std::move(round);
      make_windows(making);
    }
  }
  at::Tensor made = making.video.slice(1, 0, steps);
  made = latents_ ? latents_->decode(made.to(device_)).to(at::kCPU) : made.clamp_(-1, 1);
  if (!given.empty()) {
    made.index_copy_(1, at::tensor(given, at::kLong), request.given_BTHWC.to(at::kCPU));
  }
  return made;
}

// Every clip for itself: what is shown depends on what it looks like so far.
at::Tensor DiffusionModel::sample_each(const SampleRequest& request) {
  std::vector<at::Tensor> clips;
  for (int64_t i = 0; i < request.count; ++i) {
    SampleRequest one = request;
    one.first = request.first + i;
    one.count = 1;
    for (at::Tensor* rows : {&one.labels_B, &one.given_BTHWC, &one.text_BE, &one.small_BTHWC}) {
      if (rows->defined()) *rows = rows->slice(0, i, i + 1);
    }
    clips.push_back(sample(one));
  }
  return at::cat(clips);
}

void DiffusionModel::make_adaptively(Making& making, const std::vector<int64_t>& given,
                                     int64_t wanted, const ImageDistance& distance) const {
  FrameScheme scheme(scheme_options(config_), wanted, given);
  const at::Tensor video = making.video[0];
  std::map<std::pair<int64_t, int64_t>, double> known;  // frames that are there stay as they are
  const FrameDistance between = [&](int64_t a, int64_t b) {
    const auto [at, fresh] = known.try_emplace(std::minmax(a, b));
    if (fresh) {
      at->second = distance ? distance(video[a], video[b])
                            : (video[a] - video[b]).square().mean().item<double>();
    }
    return at->second;
  };
  for (size_t number = 0; !scheme.finished(); ++number) {
    making.windows = {window_of(scheme.next(between))};
    making.numbers = {number};
    make_windows(making);
  }
}

DiffusionModel::Making DiffusionModel::making_of(const SampleRequest& request,
                                                 int64_t frames) const {
  const at::TensorOptions options(device_);
  Making making;
  making.keys.x_BTHWC = at::zeros({request.count}, options);
  making.keys.seed = request.seed;
  making.keys.first_position = request.first;
  making.shown.labels_B = labels_of(request, making.keys, config_.classes());
  if (request.text_BE.defined()) making.shown.text_BE = request.text_BE.to(device_);
  making.video = at::zeros({request.count, frames, shape_.height, shape_.width, shape_.channels});
  if (!request.small_BTHWC.defined()) return making;
  at::Tensor small = request.small_BTHWC.to(device_);
  if (frames > small.size(1)) {  // the last window reaches beyond
    small =
        at::cat({small, small.slice(1, -1).expand({-1, frames - small.size(1), -1, -1, -1})}, 1);
  }
  making.small = as_shown(
      small, config_.upscale_noise() > 0
                 ? keyed_normal(making.keys, Purpose::kSampling, kSmallDraw, small.sizes().slice(1))
                 : at::Tensor());
  return making;
}

// What is shown of every clip, for `windows` times as many rows.
static Shown repeated(const Shown& shown, size_t windows) {
  const auto rows = [&](const at::Tensor& x) {
    return x.defined() && windows > 1 ? at::cat(std::vector<at::Tensor>(windows, x)) : x;
  };
  return {rows(shown.labels_B), rows(shown.text_BE), {}};
}

void DiffusionModel::make_windows(Making& making) const {
  making.draws = 0;
  making.observed = numbers_on(making.window().places(FrameRole::kObserved), device_);
  making.latent = numbers_on(making.window().places(FrameRole::kLatent), device_);
  making.given = making.frames_of(FrameRole::kObserved).to(device_);
  const int64_t clips = making.video.size(0);
  making.shown_here = repeated(making.shown, making.windows.size());
  if (making.small.defined()) {
    std::vector<at::Tensor> rows;
    for (const FrameWindow& window : making.windows) {
      rows.push_back(making.small.index_select(1, numbers_on(window.index, device_).clamp_min(0)));
    }
    making.shown_here.small_BTHWC = at::cat(rows);
  }
  SamplerParts parts;
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    return estimate_given(making, z, level);
  };
  parts.noise = [&] { return making.noise(making.latent.numel()); };
  const at::Tensor made = sample_from_noise(config_.sampler(), schedule_, parts).to(at::kCPU);
  for (size_t i = 0; i < making.windows.size(); ++i) {
    const auto first = static_cast<int64_t>(i) * clips;
    making.video.index_copy_(1, at::tensor(making.windows[i].frames(FrameRole::kLatent), at::kLong),
                             made.slice(0, first, first + clips));
  }
}

// The estimate of all frames of the window, towards what is to be shown and away from nothing.
Estimate DiffusionModel::guided_estimate(const Making& making, const at::Tensor& z,
                                         const std::vector<NoiseLevel>& levels) const {
  const double scale = config_.sampler().guidance();
  if (scale == 1) return estimate(z, making.windows, levels, making.shown_here);
  const Estimate without =
      estimate(z, making.windows, levels, {{}, {}, making.shown_here.small_BTHWC});
  if (scale == 0) return without;
  const Estimate with = estimate(z, making.windows, levels, making.shown_here);
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

  std::vector<NoiseLevel> levels(making.window().index.size());
  for (const int64_t place : making.window().places(FrameRole::kLatent)) {
    levels[static_cast<size_t>(place)] = level;
  }
  at::Tensor shown = making.given;
  if (any && !taught) {
    shown = level.alpha * making.given + level.sigma * making.noise(making.observed.numel());
    std::fill(levels.begin(), levels.end(), level);
  }
  std::vector<int64_t> shape = z.sizes().vec();
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
  return kept_in_range(making, out);
}

// Latents have no range. Of a pseudo video that carries noise the image alone has one; it stands
// last.
Estimate DiffusionModel::kept_in_range(const Making& making, Estimate estimate) const {
  if (latents_) return estimate;
  if (!last_frame_only_) {
    estimate.image = within_range(estimate.image, config_.sampler());
  } else if (making.window().frames(FrameRole::kLatent).back() == shape_.frames - 1) {
    const at::Tensor image = within_range(estimate.image.slice(1, -1), config_.sampler());
    estimate.image = at::cat({estimate.image.slice(1, 0, -1), image}, 1);
  }
  return estimate;
}

// What is made of the part of these clips that the model is given.
SampleRequest DiffusionModel::request_for(const Clips& clips) const {
  const Shown shown = shown_of(clips, false);
  SampleRequest request;
  request.seed = clips.seed;
  request.first = clips.first_position;
  request.count = clips.size();
  request.labels_B = shown.labels_B;
  request.text_BE = shown.text_BE;
  request.given_frames = frames_to_give();
  if (!request.given_frames.empty()) {
    request.given_BTHWC =
        clips.x_BTHWC.index_select(1, numbers_on(request.given_frames, clips.x_BTHWC.device()));
  }
  if (config_.upscale() > 1) request.small_BTHWC = smaller(clips.x_BTHWC);
  return request;
}

at::Tensor DiffusionModel::preview(const Clips& clips) { return sample(request_for(clips)); }

at::Tensor DiffusionModel::reconstruct(const Clips& clips) {
  if (frames_to_give().empty() && config_.upscale() == 1) return Model::reconstruct(clips);
  return sample(request_for(clips));
}

}  // namespace lf
