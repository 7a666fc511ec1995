// The making of clips by a DiffusionModel: window by window, each by the sampler, with what is
// given kept as it is.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "diffusion/guidance.h"
#include "model/denoisers/diffusion_model.h"

namespace lf {

// Layers of Purpose::kSampling beside the sampler's own draws, which count from 0.
constexpr uint32_t kLabelDraw = UINT32_MAX, kSmallDraw = UINT32_MAX - 1;
// From a window's seed to the next one's.
constexpr uint64_t kNextWindow = 0x9e3779b97f4a7c15;
// Clips that go through the network at once where there are windows enough.
constexpr int64_t kTogether = 8;

// The whole video.
struct DiffusionModel::Making {
  Clips keys;        // seed and positions of the clips
  Shown shown;       // of all clips, without the small ones
  at::Tensor video;  // [B, T, H, W, C] of what is diffused, in host memory
  at::Tensor small;  // the small clips as they are shown, of all frames; or undefined
};

// Windows of it that are made together, alike in their roles. Tensors have rows for all clips of
// the first window, then of the second. With guidance the network sees all of them twice in one
// pass, the first time shown nothing.
class DiffusionModel::Round {
 public:
  // The windows' numbers among all of the video's.
  Round(const Making& making, std::vector<FrameWindow> windows, std::vector<size_t> numbers,
        double guidance, at::Device device);

  bool twice() const { return twice_; }
  const std::vector<FrameWindow>& windows_seen() const { return seen_; }
  const Shown& shown() const { return shown_; }
  const FrameWindow& window() const { return windows_.front(); }
  const at::Tensor& observed() const { return observed_; }  // places of a window, int64
  const at::Tensor& latent() const { return latent_; }
  const at::Tensor& given() const { return given_; }  // the frames at the observed places
  at::Tensor noise(int64_t frames);
  void store(const at::Tensor& made, at::Tensor& video) const;

 private:
  const Making& making_;
  std::vector<FrameWindow> windows_;
  std::vector<size_t> numbers_;
  at::Tensor observed_, latent_, given_;
  bool twice_;
  std::vector<FrameWindow> seen_;
  Shown shown_;
  uint32_t draws_ = 0;  // of noise so far
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

// The frames of one role, of all windows, on the host.
at::Tensor frames_of(FrameRole role, const std::vector<FrameWindow>& windows,
                     const at::Tensor& video) {
  std::vector<at::Tensor> rows;
  for (const FrameWindow& window : windows) {
    rows.push_back(video.index_select(1, at::tensor(window.frames(role), at::kLong)));
  }
  return at::cat(rows);
}

}  // namespace

DiffusionModel::Round::Round(const Making& making, std::vector<FrameWindow> windows,
                             std::vector<size_t> numbers, double guidance, at::Device device)
    : making_(making),
      windows_(std::move(windows)),
      numbers_(std::move(numbers)),
      observed_(numbers_on(window().places(FrameRole::kObserved), device)),
      latent_(numbers_on(window().places(FrameRole::kLatent), device)),
      given_(frames_of(FrameRole::kObserved, windows_, making.video).to(device)),
      twice_(guidance != 0 && guidance != 1 &&
             (making.shown.labels_B.defined() || making.shown.text_BE.defined())),
      seen_(windows_) {
  if (twice_ && windows_.size() > 1) seen_.insert(seen_.end(), windows_.begin(), windows_.end());
  const auto repeated = [](const at::Tensor& x, size_t times) {
    return x.defined() && times > 1 ? at::cat(std::vector<at::Tensor>(times, x)) : x;
  };
  // A row for every clip of every window, and before them as many that show nothing.
  const auto rows_of = [&](const at::Tensor& x, double nothing) {
    if (!x.defined() || guidance == 0) return at::Tensor();
    const at::Tensor rows = repeated(x, windows_.size());
    return twice_ ? at::cat({at::full_like(rows, nothing), rows}) : rows;
  };
  shown_ = {rows_of(making.shown.labels_B, -1), rows_of(making.shown.text_BE, 0), {}};
  if (!making.small.defined()) return;
  std::vector<at::Tensor> rows;
  for (const FrameWindow& one : windows_) {
    rows.push_back(making.small.index_select(1, numbers_on(one.index, device).clamp_min(0)));
  }
  shown_.small_BTHWC = repeated(at::cat(rows), twice_ ? 2 : 1);
}

// What a clip is made of depends on the clip and the window, not on what is made with it.
at::Tensor DiffusionModel::Round::noise(int64_t frames) {
  std::vector<int64_t> shape = making_.video.sizes().slice(1).vec();
  shape[0] = frames;
  std::vector<at::Tensor> rows;
  for (const size_t number : numbers_) {
    Clips own = making_.keys;
    own.seed += number * kNextWindow;
    rows.push_back(keyed_normal(own, Purpose::kSampling, draws_, shape));
  }
  ++draws_;
  return rows.size() == 1 ? rows.front() : at::cat(rows);
}

// Puts the frames that were made, on the host, where they belong.
void DiffusionModel::Round::store(const at::Tensor& made, at::Tensor& video) const {
  const int64_t clips = video.size(0);
  for (size_t i = 0; i < windows_.size(); ++i) {
    const auto first = static_cast<int64_t>(i) * clips;
    video.index_copy_(1, at::tensor(windows_[i].frames(FrameRole::kLatent), at::kLong),
                      made.slice(0, first, first + clips));
  }
}

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
      std::vector<FrameWindow> together;
      for (const size_t number : round) together.push_back(windows[number]);
      make(making, Round(making, std::move(together), std::move(round),
                         config_.sampler().guidance(), device_));
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
    make(making, Round(making, {window_of(scheme.next(between))}, {number},
                       config_.sampler().guidance(), device_));
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

void DiffusionModel::make(Making& making, Round round) const {
  SamplerParts parts;
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    return estimate_given(round, z, level);
  };
  parts.noise = [&] { return round.noise(round.latent().numel()); };
  round.store(sample_from_noise(config_.sampler(), schedule_, parts).to(at::kCPU), making.video);
}

// The estimate of all frames of the window, towards what is to be shown and away from nothing.
Estimate DiffusionModel::guided_estimate(const Round& round, const at::Tensor& z,
                                         const std::vector<NoiseLevel>& levels) const {
  if (!round.twice()) return estimate(z, round.windows_seen(), levels, round.shown());
  const Estimate both = estimate(at::cat({z, z}), round.windows_seen(), levels, round.shown());
  const std::vector<at::Tensor> images = both.image.chunk(2);
  Estimate out{guided(images[1], images[0], config_.sampler().guidance()), {}};
  if (both.variance.defined()) out.variance = both.variance.chunk(2)[1];
  return out;
}

// The estimate of the latent frames z, the others being given.
Estimate DiffusionModel::estimate_given(Round& round, const at::Tensor& z,
                                        const NoiseLevel& level) const {
  // A network that has met frames without noise among noisy ones is shown the given frames as they
  // are; another meets them at the level of the rest.
  const bool taught = config_.frames() != DiffusionConfig::JOINT || config_.level_per_frame();
  const bool any = round.observed().numel() > 0;
  const bool reconstruct =
      any && !taught && config_.sampler().given() == SamplerConfig::RECONSTRUCT;
  const at::AutoGradMode gradients(reconstruct);
  const at::Tensor latent = reconstruct ? z.detach().clone().set_requires_grad(true) : z;

  std::vector<NoiseLevel> levels(round.window().index.size());
  for (const int64_t place : round.window().places(FrameRole::kLatent)) {
    levels[static_cast<size_t>(place)] = level;
  }
  at::Tensor shown = round.given();
  if (any && !taught) {
    shown = level.alpha * round.given() + level.sigma * round.noise(round.observed().numel());
    std::fill(levels.begin(), levels.end(), level);
  }
  std::vector<int64_t> shape = z.sizes().vec();
  shape[1] = static_cast<int64_t>(levels.size());
  at::Tensor all = at::zeros(shape, z.options()).index_copy(1, round.latent(), latent);
  if (any) all = all.index_copy(1, round.observed(), shown);

  const Estimate whole = guided_estimate(round, all, levels);
  Estimate out{whole.image.index_select(1, round.latent()), {}};
  if (whole.variance.defined()) out.variance = whole.variance.index_select(1, round.latent());
  if (reconstruct) {
    const at::Tensor made = whole.image.index_select(1, round.observed());
    out.image = towards_given(out.image, made, round.given(), latent, level.alpha,
                              config_.sampler().given_weight());
    if (out.variance.defined()) out.variance = out.variance.detach();
  }
  return kept_in_range(round, out);
}

// Latents have no range. Of a pseudo video that carries noise the image alone has one; it stands
// last.
Estimate DiffusionModel::kept_in_range(const Round& round, Estimate estimate) const {
  if (latents_) return estimate;
  if (!last_frame_only_) {
    estimate.image = within_range(estimate.image, config_.sampler());
  } else if (round.window().frames(FrameRole::kLatent).back() == shape_.frames - 1) {
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
