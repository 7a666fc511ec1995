// Sampling from a DiffusionModel: window by window, each with the sampler, given frames kept as
// they are.
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

// Streams of Purpose::kSampling; the sampler's own draws count from 0.
constexpr uint32_t kLabelDraw = UINT32_MAX, kSmallDraw = UINT32_MAX - 1;
// Difference of seed between consecutive windows.
constexpr uint64_t kNextWindow = 0x9e3779b97f4a7c15;
// Clips in one call of the network where enough windows can be sampled together.
constexpr int64_t kTogether = 8;

// The whole video.
struct DiffusionModel::SamplingState {
  Clips keys;                 // seed and positions of the clips
  Conditioning conditioning;  // of all clips, without the small ones
  at::Tensor video;           // [B, T, H, W, C] in pixels or latents, in host memory
  at::Tensor small;           // the upsampled small clips, all frames; undefined: none
};

// Windows that are sampled together and have the same roles. Tensors hold all clips of the first
// window, then of the second. With guidance one pass of the network holds them twice, first
// unconditionally.
class DiffusionModel::Round {
 public:
  // `numbers`: indices of the windows among all of the video's.
  Round(const SamplingState& state, std::vector<FrameWindow> windows, std::vector<size_t> numbers,
        double guidance, at::Device device);

  bool guided() const { return guided_; }
  const std::vector<FrameWindow>& network_windows() const { return network_windows_; }
  const Conditioning& conditioning() const { return conditioning_; }
  const FrameWindow& window() const { return windows_.front(); }
  const at::Tensor& observed() const { return observed_; }  // int64, positions in a window
  const at::Tensor& latent() const { return latent_; }
  const at::Tensor& given() const { return given_; }  // the observed frames
  at::Tensor noise(int64_t frames);
  void store(const at::Tensor& made, at::Tensor& video) const;

 private:
  const SamplingState& state_;
  std::vector<FrameWindow> windows_;
  std::vector<size_t> numbers_;
  at::Tensor observed_, latent_, given_;
  bool guided_;
  std::vector<FrameWindow> network_windows_;  // with guidance of several windows: each twice
  Conditioning conditioning_;
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

void check_conditioning(const SampleRequest& request, const DiffusionConfig& config) {
  if (request.labels_B.defined() && request.labels_B.numel() > 0 && config.classes() > 0) {
    const auto largest = request.labels_B.max().item<int64_t>();
    if (largest >= config.classes()) {
      fail(Code::kUsage, "class ", largest, " is requested, and the model has ", config.classes(),
           " classes; expected 0 to ", config.classes() - 1);
    }
  }
  if (!request.text.defined()) return;
  if (config.text().empty()) {
    fail(Code::kUsage,
         "a text is requested, and the model was trained without any (model.diffusion.text)");
  }
  const at::IntArrayRef sizes = request.text.sizes();
  const int64_t tokens = config.text_tokens(), width = config.text_width();
  const bool fits = sizes.size() == 3 ? tokens > 0 && sizes[2] == width
                                      : sizes[1] == std::max<int64_t>(tokens, 1) * width;
  if (fits && sizes[0] == request.count) return;
  fail(Code::kUsage, "texts of ", sizes, " are given, expected ", request.count, " of ",
       tokens > 0
           ? str("[tokens, ", width, "], or ", tokens, " tokens in a row of ", tokens * width)
           : str(width, " values"));
}

// The requested classes, or keyed draws of them; undefined for a model without classes.
at::Tensor labels_of(const SampleRequest& request, const Clips& keys, int64_t classes) {
  if (classes == 0) return {};
  if (request.labels_B.defined()) return request.labels_B.to(keys.x_BTHWC.device());
  const at::Tensor draw = keyed_uniform(keys, Purpose::kSampling, kLabelDraw, {1});
  return (draw.squeeze(1) * static_cast<double>(classes)).to(at::kLong).clamp_max(classes - 1);
}

// Indices of the request's given frames.
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
  fail(Code::kUsage, count, " frames are given with ", frames.size(),
       " indices; expected as many, rising from 0 or more");
}

int64_t wanted_frames(const SampleRequest& request, const std::vector<int64_t>& given,
                      const DiffusionConfig& config, int64_t trained) {
  if (request.frames > 0) return request.frames;
  if (request.small_BTHWC.defined()) return request.small_BTHWC.size(1);
  if (config.frames() == DiffusionConfig::BETWEEN && !given.empty()) return given.back() + 1;
  return trained;
}

at::Tensor indices_on(const std::vector<int64_t>& indices, at::Device device) {
  return at::tensor(indices, at::kLong).to(device);
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

DiffusionModel::Round::Round(const SamplingState& state, std::vector<FrameWindow> windows,
                             std::vector<size_t> numbers, double guidance, at::Device device)
    : state_(state),
      windows_(std::move(windows)),
      numbers_(std::move(numbers)),
      observed_(indices_on(window().places(FrameRole::kObserved), device)),
      latent_(indices_on(window().places(FrameRole::kLatent), device)),
      given_(frames_of(FrameRole::kObserved, windows_, state.video).to(device)),
      guided_(guidance != 0 && guidance != 1 &&
              (state.conditioning.labels_B.defined() || state.conditioning.text.defined())),
      network_windows_(windows_) {
  if (guided_ && windows_.size() > 1) {
    network_windows_.insert(network_windows_.end(), windows_.begin(), windows_.end());
  }
  const auto repeated = [](const at::Tensor& x, size_t times) {
    return x.defined() && times > 1 ? at::cat(std::vector<at::Tensor>(times, x)) : x;
  };
  // A row for every clip of every window; with guidance as many without conditioning before them.
  const auto rows_of = [&](const at::Tensor& x, double nothing) {
    if (!x.defined() || guidance == 0) return at::Tensor();
    const at::Tensor rows = repeated(x, windows_.size());
    return guided_ ? at::cat({at::full_like(rows, nothing), rows}) : rows;
  };
  conditioning_ = {
      rows_of(state.conditioning.labels_B, -1), rows_of(state.conditioning.text, 0), {}};
  if (!state.small.defined()) return;
  std::vector<at::Tensor> rows;
  for (const FrameWindow& one : windows_) {
    rows.push_back(state.small.index_select(1, indices_on(one.index, device).clamp_min(0)));
  }
  conditioning_.small_BTHWC = repeated(at::cat(rows), guided_ ? 2 : 1);
}

// Noise depends on the clip and the window, not on what is sampled together with it.
at::Tensor DiffusionModel::Round::noise(int64_t frames) {
  std::vector<int64_t> shape = state_.video.sizes().slice(1).vec();
  shape[0] = frames;
  std::vector<at::Tensor> rows;
  for (const size_t number : numbers_) {
    Clips own = state_.keys;
    own.seed += number * kNextWindow;
    rows.push_back(keyed_normal(own, Purpose::kSampling, draws_, shape));
  }
  ++draws_;
  return rows.size() == 1 ? rows.front() : at::cat(rows);
}

// Copies sampled frames, on the host, into the video.
void DiffusionModel::Round::store(const at::Tensor& made, at::Tensor& video) const {
  const int64_t clips = video.size(0);
  for (size_t i = 0; i < windows_.size(); ++i) {
    const auto first = static_cast<int64_t>(i) * clips;
    video.index_copy_(1, at::tensor(windows_[i].frames(FrameRole::kLatent), at::kLong),
                      made.slice(0, first, first + clips));
  }
}

// Checks all of a request but its frames.
void DiffusionModel::check(const SampleRequest& request) const {
  check_conditioning(request, config_);
  if (request.given_BTHWC.defined()) check_size(request.given_BTHWC, clip_, "given frames");
  ClipShape small = clip_;
  small.height /= config_.upscale();
  small.width /= config_.upscale();
  if (config_.upscale() == 1) {
    if (!request.small_BTHWC.defined()) return;
    fail(Code::kUsage,
         "small clips are given to a model without super-resolution; train one with "
         "model.diffusion.upscale");
  }
  if (!request.small_BTHWC.defined()) {
    fail(Code::kUsage, "this model upsamples clips ", config_.upscale(),
         " times and makes none unconditionally; give it small clips of ", shape_text(small));
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
      fail(Code::kUsage, "this model works in latents, where only the first frames can be given");
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

  const bool records = records_ && replays_ == nullptr;
  if (records) {
    replays_ = std::make_unique<Replays>(
        [this](const std::vector<at::Tensor>& inputs) { return estimate_on_device(inputs); });
  }
  // A recording holds addresses of weights, which may change before the next call.
  const std::unique_ptr<void, std::function<void(void*)>> until_sampled(
      records ? this : nullptr, [this](void*) { replays_.reset(); });
  SamplingState state = begin_sampling(request, frames);
  if (!there.empty()) {
    const at::Tensor& whole = request.given_BTHWC;
    const at::Tensor kept = latents_ ? latents_->encode(whole.to(device_)) : whole;
    state.video.index_copy_(1, at::tensor(there, at::kLong), kept.to(at::kCPU));
  }
  if (adapts()) {
    sample_adaptively(state, there, steps, request.distance);
  } else {
    // Other networks need consecutive frames, or one set of frame indices for all clips.
    const bool any_order = config_.frames() == DiffusionConfig::FLEXIBLE;
    const int64_t most = any_order ? std::max<int64_t>(kTogether / request.count, 1) : 1;
    for (std::vector<size_t>& round : rounds_of(windows, static_cast<size_t>(most))) {
      std::vector<FrameWindow> together;
      for (const size_t number : round) together.push_back(windows[number]);
      sample_round(state, Round(state, std::move(together), std::move(round),
                                config_.sampler().guidance(), device_));
    }
  }
  at::Tensor made = state.video.slice(1, 0, steps);
  made = latents_ ? latents_->decode(made.to(device_)).to(at::kCPU) : made.clamp_(-1, 1);
  if (!given.empty()) {
    made.index_copy_(1, at::tensor(given, at::kLong), request.given_BTHWC.to(at::kCPU));
  }
  return made;
}

// One clip at a time: an adaptive scheme's windows depend on the frames sampled so far.
at::Tensor DiffusionModel::sample_each(const SampleRequest& request) {
  std::vector<at::Tensor> clips;
  for (int64_t i = 0; i < request.count; ++i) {
    SampleRequest one = request;
    one.first = request.first + i;
    one.count = 1;
    for (at::Tensor* rows : {&one.labels_B, &one.given_BTHWC, &one.text, &one.small_BTHWC}) {
      if (rows->defined()) *rows = rows->slice(0, i, i + 1);
    }
    clips.push_back(sample(one));
  }
  return at::cat(clips);
}

void DiffusionModel::sample_adaptively(SamplingState& state, const std::vector<int64_t>& given,
                                       int64_t wanted, const ImageDistance& distance) const {
  FrameScheme scheme(scheme_options(config_), wanted, given);
  const at::Tensor video = state.video[0];
  std::map<std::pair<int64_t, int64_t>, double> known;  // finished frames do not change
  const FrameDistance between = [&](int64_t a, int64_t b) {
    const auto [at, fresh] = known.try_emplace(std::minmax(a, b));
    if (fresh) {
      at->second = distance ? distance(video[a], video[b])
                            : (video[a] - video[b]).square().mean().item<double>();
    }
    return at->second;
  };
  for (size_t number = 0; !scheme.finished(); ++number) {
    sample_round(state, Round(state, {window_of(scheme.next(between))}, {number},
                              config_.sampler().guidance(), device_));
  }
}

DiffusionModel::SamplingState DiffusionModel::begin_sampling(const SampleRequest& request,
                                                             int64_t frames) const {
  const at::TensorOptions options(device_);
  SamplingState state;
  state.keys.x_BTHWC = at::zeros({request.count}, options);
  state.keys.seed = request.seed;
  state.keys.first_position = request.first;
  state.conditioning.labels_B = labels_of(request, state.keys, config_.classes());
  if (request.text.defined()) {
    at::Tensor& text = state.conditioning.text;
    text = request.text.to(device_);
    if (config_.text_tokens() > 0) text = text.reshape({request.count, -1, config_.text_width()});
  }
  state.video = at::zeros({request.count, frames, shape_.height, shape_.width, shape_.channels});
  if (!request.small_BTHWC.defined()) return state;
  at::Tensor small = request.small_BTHWC.to(device_);
  if (frames > small.size(1)) {  // the last window reaches beyond
    small =
        at::cat({small, small.slice(1, -1).expand({-1, frames - small.size(1), -1, -1, -1})}, 1);
  }
  state.small = upsampled(
      small, config_.upscale_noise() > 0
                 ? keyed_normal(state.keys, Purpose::kSampling, kSmallDraw, small.sizes().slice(1))
                 : at::Tensor());
  return state;
}

void DiffusionModel::sample_round(SamplingState& state, Round round) const {
  SamplerParts parts;
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    return estimate_given(round, z, level);
  };
  parts.noise = [&] { return round.noise(round.latent().numel()); };
  round.store(sample_from_noise(config_.sampler(), schedule_, parts).to(at::kCPU), state.video);
}

// The estimate of all frames of the windows, with classifier-free guidance.
Estimate DiffusionModel::guided_estimate(const Round& round, const at::Tensor& z,
                                         const std::vector<NoiseLevel>& levels) const {
  if (!round.guided()) {
    return estimate(z, round.network_windows(), levels, round.conditioning());
  }
  const Estimate both =
      estimate(at::cat({z, z}), round.network_windows(), levels, round.conditioning());
  const std::vector<at::Tensor> images = both.image.chunk(2);
  Estimate out{guided(images[1], images[0], config_.sampler().guidance()), {}};
  if (both.variance.defined()) out.variance = both.variance.chunk(2)[1];
  return out;
}

// The estimate of the latent frames z given the observed ones.
Estimate DiffusionModel::estimate_given(Round& round, const at::Tensor& z,
                                        const NoiseLevel& level) const {
  // A network trained with clean frames among noisy ones gets the observed frames as they are; any
  // other gets them at the noise level of the latent ones.
  const bool clean = config_.frames() != DiffusionConfig::JOINT || config_.level_per_frame();
  const bool any = round.observed().numel() > 0;
  const bool reconstruct = any && !clean && config_.sampler().given() == SamplerConfig::RECONSTRUCT;
  const at::AutoGradMode gradients(reconstruct);
  const at::Tensor latent = reconstruct ? z.detach().clone().set_requires_grad(true) : z;

  std::vector<NoiseLevel> levels(round.window().index.size());
  for (const int64_t position : round.window().places(FrameRole::kLatent)) {
    levels[static_cast<size_t>(position)] = level;
  }
  at::Tensor observed = round.given();
  if (any && !clean) {
    observed = level.alpha * round.given() + level.sigma * round.noise(round.observed().numel());
    std::fill(levels.begin(), levels.end(), level);
  }
  std::vector<int64_t> shape = z.sizes().vec();
  shape[1] = static_cast<int64_t>(levels.size());
  at::Tensor all = at::zeros(shape, z.options()).index_copy(1, round.latent(), latent);
  if (any) all = all.index_copy(1, round.observed(), observed);

  const Estimate whole = guided_estimate(round, all, levels);
  Estimate out{whole.image.index_select(1, round.latent()), {}};
  if (whole.variance.defined()) out.variance = whole.variance.index_select(1, round.latent());
  if (reconstruct) {
    const at::Tensor made = whole.image.index_select(1, round.observed());
    out.image = towards_given(out.image, made, round.given(), latent, level.alpha,
                              config_.sampler().given_weight());
    if (out.variance.defined()) out.variance = out.variance.detach();
  }
  return clipped(round, out);
}

// Latents have no range. With a noisy recipe only the last frame, the clean image, has one.
Estimate DiffusionModel::clipped(const Round& round, Estimate estimate) const {
  if (latents_) return estimate;
  if (!clips_last_frame_only_) {
    estimate.image = within_range(estimate.image, config_.sampler());
  } else if (round.window().frames(FrameRole::kLatent).back() == shape_.frames - 1) {
    const at::Tensor image = within_range(estimate.image.slice(1, -1), config_.sampler());
    estimate.image = at::cat({estimate.image.slice(1, 0, -1), image}, 1);
  }
  return estimate;
}

// A request for these clips from the frames that the model is given.
SampleRequest DiffusionModel::request_for(const Clips& clips) const {
  const Conditioning conditioning = conditioning_of(clips, false);
  SampleRequest request;
  request.seed = clips.seed;
  request.first = clips.first_position;
  request.count = clips.size();
  request.labels_B = conditioning.labels_B;
  request.text = conditioning.text;
  request.given_frames = frames_to_give();
  if (!request.given_frames.empty()) {
    request.given_BTHWC =
        clips.x_BTHWC.index_select(1, indices_on(request.given_frames, clips.x_BTHWC.device()));
  }
  if (config_.upscale() > 1) request.small_BTHWC = downsampled(clips.x_BTHWC);
  return request;
}

at::Tensor DiffusionModel::preview(const Clips& clips) { return sample(request_for(clips)); }

at::Tensor DiffusionModel::reconstruct(const Clips& clips) {
  if (frames_to_give().empty() && config_.upscale() == 1) return Model::reconstruct(clips);
  return sample(request_for(clips));
}

}  // namespace lf
