#include "model/denoisers/rvd.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "diffusion/prediction.h"

namespace lf {
namespace {

// Half-life of the running scale in clips, and its lower bound.
constexpr double kScaleHalfLife = 1000, kLeastScale = 0.05;
constexpr double kLargestResidual = 2;  // of a pixel in [-1, 1]

std::vector<int64_t> widths_of(const google::protobuf::RepeatedField<int32_t>& multipliers,
                               std::vector<int64_t> usual, int64_t width) {
  if (!multipliers.empty()) usual.assign(multipliers.begin(), multipliers.end());
  for (int64_t& level : usual) level *= width;
  return usual;
}

std::vector<int64_t> mean_widths(const RvdConfig& config) {
  return widths_of(config.mean_multipliers(), {1, 2, 2, 4}, config.width());
}

std::vector<int64_t> residual_widths(const RvdConfig& config) {
  return widths_of(config.multipliers(), {1, 2, 4, 8}, config.width());
}

// Throws Code::kUsage for options that do not apply to one frame at a time.
void refuse_others(const DiffusionConfig& config) {
  const char* other = config.frames() != DiffusionConfig::JOINT ? "frames"
                      : config.learned_variance()               ? "learned_variance"
                      : config.level_per_frame()                ? "level_per_frame"
                      : config.classes() > 0                    ? "classes"
                      : !config.text().empty()                  ? "text"
                      : config.images() > 0                     ? "images"
                      : config.upscale() > 1                    ? "upscale"
                      : !config.tokenizer().empty()             ? "tokenizer"
                      : config.last_frame_weight() != 1         ? "last_frame_weight"
                      : config.sampler().guidance() != 1        ? "sampler.guidance"
                      : config.sampler().threshold() == SamplerConfig::DYNAMIC
                          ? "sampler.threshold=DYNAMIC"
                          : nullptr;
  if (other == nullptr) return;
  fail(Code::kUsage, "model.diffusion.", other,
       " is for models that sample several frames at once, and model.rvd samples the next one; "
       "leave it out");
}

void check_frames(const RvdConfig& config, const ClipShape& clip) {
  if (config.given() < config.warm_up() || config.given() >= clip.frames) {
    fail(Code::kUsage, "model.rvd.given is ", config.given(), " and model.rvd.warm_up ",
         config.warm_up(), "; expected given to be no less, and less than the ", clip.frames,
         " frames of a clip");
  }
}

// [T * B, C, H, W], as the recurrent networks take it.
at::Tensor time_first(const at::Tensor& x_BTHWC) {
  return frames_as_images(x_BTHWC.transpose(0, 1).contiguous());
}

at::Tensor pixels_last(const at::Tensor& images) { return images.permute({0, 2, 3, 1}); }

std::vector<int64_t> first_frames(int64_t count) {
  std::vector<int64_t> frames(static_cast<size_t>(count));
  std::iota(frames.begin(), frames.end(), 0);
  return frames;
}

}  // namespace

Rvd::Rvd(const Config& config, const ClipShape& clip, at::Device device, const SumOverRanks& sum)
    : table_(config.train(), device),
      config_(config.model().rvd()),
      diffusion_(config.model().diffusion()),
      clip_(clip),
      device_(device),
      sum_(sum),
      schedule_(diffusion_, clip.height),
      mean_levels_(Scope(table_, "mean.down"), clip.channels, mean_widths(config_),
                   config.train().recompute()),
      mean_decoder_(Scope(table_, "mean.up"), clip.channels, mean_widths(config_),
                    config.train().recompute()),
      context_levels_(Scope(table_, "context"), clip.channels, residual_widths(config_),
                      config.train().recompute()),
      denoiser_(Scope(table_, "denoiser"), clip.channels, residual_widths(config_),
                config.train().recompute()) {
  check_levels(clip, mean_widths(config_).size(), "model.rvd.mean_multipliers");
  check_levels(clip, residual_widths(config_).size(), "model.rvd.multipliers");
  check_frames(config_, clip);
  refuse_others(diffusion_);
  sampling_levels(diffusion_.sampler(), schedule_);  // throws on a sampler that does not fit
  if (!config_.running_scale()) return;
  residual_square_ = Scope(table_).buffer("rest_square", at::zeros({1}));
  since_update_ = at::zeros({2}, at::TensorOptions(device).dtype(at::kDouble));
}

at::Tensor Rvd::scale_tensor() const {
  return residual_square_.sqrt()
      .clamp_min(kLeastScale)
      .masked_fill((residual_square_ > 0).logical_not(), 1);
}

double Rvd::scale() const { return residual_square_.defined() ? scale_tensor().item<double>() : 1; }

Rvd::Forecast Rvd::forecast(const at::Tensor& x_BTHWC, State& state) const {
  const at::Tensor images = time_first(x_BTHWC);
  const int64_t frames = x_BTHWC.size(1);
  Forecast out;
  out.mean = mean_decoder_(mean_levels_(images, frames, config_.back_frames(), state.mean));
  out.context = context_levels_(images, frames, config_.back_frames(), state.context);
  return out;
}

// A keyed noise level for each clip and all of its frames.
FrameBatch Rvd::levels_of(const Clips& clips) const {
  FrameBatch levels(clips.size(), at::kCPU);
  for (int64_t clip = 0; clip < clips.size(); ++clip) {
    const auto position = static_cast<uint64_t>(clips.first_position + clip);
    float u = 0, n = 0;
    uniform({clips.seed, Purpose::kDiffusionTime, position, 0, 0}, 0, 1, &u);
    normal({clips.seed, Purpose::kDiffusionTime, position, 1, 0}, 0, 1, &n);
    const NoiseLevel level = schedule_.training_level(u, n);
    levels.add({0, FrameRole::kLatent, level,
                preconditioning(diffusion_.prediction(), level, diffusion_.sigma_data()), 1});
  }
  return levels;
}

Loss Rvd::loss(const Clips& clips, size_t /*phase*/, bool training) {
  const at::Tensor& x = clips.x_BTHWC;
  const int64_t rows = x.size(0), last = x.size(1) - 1;
  // Forecasts of frames warm_up to the last, each from all frames before it.
  State state;
  Forecast ahead = forecast(x.slice(1, 0, last), state);
  const int64_t skipped = (config_.warm_up() - 1) * rows, count = last + 1 - config_.warm_up();
  ahead.mean = ahead.mean.slice(0, skipped);
  for (at::Tensor& level : ahead.context) level = level.slice(0, skipped);
  const at::Tensor residual = time_first(x.slice(1, config_.warm_up())) - ahead.mean.to(at::kFloat);
  at::Tensor y = residual;
  if (residual_square_.defined()) {
    y = residual / scale_tensor();
    if (training) {
      const at::Tensor square = residual.detach().to(at::kDouble).square().sum();
      since_update_ +=
          at::stack({square, at::full_like(square, static_cast<double>(residual.numel()))});
    }
  }

  const std::vector<at::Tensor> level = chosen_on_host(clips, [this](const Clips& keys) {
    const FrameBatch levels = levels_of(keys);
    const auto values = [&](const auto& of) { return levels.values(of).flatten(); };
    return std::vector<at::Tensor>{
        values([](const BatchFrame& of) { return of.level.alpha; }),
        values([](const BatchFrame& of) { return of.level.sigma; }),
        values([](const BatchFrame& of) { return of.scaling.in; }),
        values([](const BatchFrame& of) { return of.scaling.image; }),
        values([](const BatchFrame& of) { return of.scaling.noise; }),
        values([&](const BatchFrame& of) { return schedule_.signal(of.level); }),
        values([&](const BatchFrame& of) { return loss_weight(diffusion_, of.level); })};
  });
  enum Value : size_t { kAlpha, kSigma, kIn, kImage, kNoise, kSignal, kWeight };
  const auto values = [&](Value which) { return level[which].repeat({count}); };
  const auto factors = [&](Value which) { return values(which).reshape({-1, 1, 1, 1}); };
  const at::Tensor e = time_first(keyed_normal(clips, Purpose::kDiffusionNoise, 0,
                                               {count, clip_.height, clip_.width, clip_.channels}));
  const at::Tensor z = factors(kAlpha) * y + factors(kSigma) * e;
  const at::Tensor output =
      denoiser_(factors(kIn) * z, values(kSignal), ahead.context).to(at::kFloat);
  const at::Tensor target = factors(kImage) * y + factors(kNoise) * e;
  const at::Tensor denoising =
      (errors_of(diffusion_, output - target).mean({1, 2, 3}) * values(kWeight)).mean();
  const at::Tensor of_mean = residual.square().mean();
  Loss out{denoising + config_.mean_weight() * of_mean, {}};
  out.terms.push_back({"denoising", denoising.detach()});
  out.terms.push_back({"mean", of_mean.detach()});
  return out;
}

void Rvd::after_update(int64_t images, const at::Tensor& moved) {
  if (!residual_square_.defined()) return;
  const at::NoGradGuard no_grad;
  if (sum_) sum_(since_update_);
  const at::Tensor square = (since_update_[0] / since_update_[1]).to(at::kFloat);
  const double kept = std::exp2(-static_cast<double>(images) / kScaleHalfLife);
  const at::Tensor next =
      at::where(residual_square_ > 0, kept * residual_square_ + (1 - kept) * square, square);
  residual_square_.copy_(at::where(moved > 0, next, residual_square_));
  since_update_.zero_();
}

std::vector<int64_t> Rvd::frames_to_give() const { return first_frames(config_.given()); }

at::Tensor Rvd::reconstruct(const Clips& clips) {
  SampleRequest request;
  request.seed = clips.seed;
  request.first = clips.first_position;
  request.count = clips.size();
  request.given_BTHWC = clips.x_BTHWC.slice(1, 0, config_.given());
  request.frames = clips.x_BTHWC.size(1);
  return sample(request);
}

Rvd::NextFrame Rvd::next_frame(const Forecast& forecast, int64_t clips,
                               const std::function<at::Tensor()>& noise) const {
  Tensors context;
  for (const at::Tensor& level : forecast.context) {
    context.push_back(level.slice(0, level.size(0) - clips));
  }
  const double s = scale();
  SamplerParts parts;
  parts.noise = [&] { return noise().permute({0, 3, 1, 2}); };
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    const Preconditioning scaling =
        preconditioning(diffusion_.prediction(), level, diffusion_.sigma_data());
    const at::Tensor signal =
        at::full({z.size(0)}, schedule_.signal(level), z.options().dtype(at::kFloat));
    const at::Tensor output = denoiser_(scaling.in * z, signal, context).to(at::kFloat);
    at::Tensor image = scaling.skip * z + scaling.out * output;
    if (diffusion_.sampler().threshold() == SamplerConfig::STATIC) {
      image = image.clamp(-kLargestResidual / s, kLargestResidual / s);
    }
    return Estimate{image, {}};
  };
  const at::Tensor y = sample_from_noise(diffusion_.sampler(), schedule_, parts);
  const at::Tensor mean = forecast.mean.slice(0, forecast.mean.size(0) - clips).to(at::kFloat);
  return {pixels_last(mean), pixels_last(s * y)};
}

at::Tensor Rvd::sample(const SampleRequest& request) {
  const at::NoGradGuard no_grad;
  const int64_t given = request.given_BTHWC.defined() ? request.given_BTHWC.size(1) : 0;
  if (given < config_.warm_up() ||
      (!request.given_frames.empty() && request.given_frames != first_frames(given))) {
    fail(Code::kUsage, "this model continues a video from at least its first ", config_.warm_up(),
         " frames; give frames 0 to ", config_.warm_up() - 1, " or more in a row");
  }
  const at::IntArrayRef sizes = request.given_BTHWC.sizes();
  if (sizes[2] != clip_.height || sizes[3] != clip_.width || sizes[4] != clip_.channels) {
    fail(Code::kUsage, "given frames are of ", sizes[2], "x", sizes[3], "x", sizes[4],
         ", this model takes ", clip_.height, "x", clip_.width, "x", clip_.channels);
  }
  const int64_t wanted = request.frames > 0 ? request.frames : clip_.frames;
  if (wanted < given) {
    fail(Code::kUsage, given, " frames are given and ", wanted,
         " are wanted, the given ones included; ask for more");
  }
  Clips keys;
  keys.x_BTHWC = at::zeros({request.count}, at::TensorOptions(device_));
  keys.seed = request.seed;
  keys.first_position = request.first;
  uint32_t draws = 0;
  const auto noise = [&] {
    return keyed_normal(keys, Purpose::kSampling, draws++,
                        {clip_.height, clip_.width, clip_.channels});
  };
  // The video is in host memory; the device holds one frame and the recurrent states.
  at::Tensor video = at::zeros({request.count, wanted, clip_.height, clip_.width, clip_.channels});
  video.slice(1, 0, given).copy_(request.given_BTHWC);
  State state;
  Forecast ahead;
  for (int64_t frame = 0; frame < wanted; ++frame) {
    if (frame >= given) {
      const NextFrame next = next_frame(ahead, request.count, noise);
      video.select(1, frame).copy_((next.mean + next.residual).clamp(-1, 1));
    }
    ahead = forecast(video.slice(1, frame, frame + 1).to(device_), state);
  }
  return video;
}

}  // namespace lf
