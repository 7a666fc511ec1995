#include "diffusion/sampler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/pow.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/stop.h"

namespace lf {
namespace {

constexpr NoiseLevel kClean;
constexpr int kContinuousSteps = 50;

using Levels = std::vector<NoiseLevel>;

const NoiseLevel& after(const Levels& levels, size_t i) {
  return i + 1 < levels.size() ? levels[i + 1] : kClean;
}

// The noise e of z = alpha image + sigma e; `image` is the estimate after thresholding.
at::Tensor noise_in(const at::Tensor& z, const at::Tensor& image, const NoiseLevel& level) {
  return (z - level.alpha * image) / level.sigma;
}

// Langevin steps, which leave z's distribution at `level` unchanged if the estimate is exact.
at::Tensor correct(const SamplerConfig& config, const SamplerParts& parts, const NoiseLevel& level,
                   at::Tensor z) {
  const double length = config.corrector_length();
  for (int i = 0; i < config.corrector_steps() && !level.clean(); ++i) {
    const at::Tensor noise = noise_in(z, parts.estimate(z, level).image, level);
    z = z + level.sigma * (std::sqrt(length) * parts.noise() - length / 2 * noise);
  }
  return z;
}

// One reverse step of the chain, from t to s.
at::Tensor step_back(const SamplerConfig& config, const SamplerParts& parts, const NoiseLevel& t,
                     const NoiseLevel& s, const at::Tensor& z) {
  const Estimate estimate = parts.estimate(z, t);
  if (s.clean()) return estimate.image;
  ReverseStep step = reverse_step(t, s);
  if (config.as_printed()) step.from_z *= t.alpha / s.alpha;
  const at::Tensor mean = step.from_z * z + step.from_x * estimate.image;
  if (estimate.variance.defined()) {
    return mean + at::pow(step.most / step.least, estimate.variance / 2) *
                      (std::sqrt(step.least) * parts.noise());
  }
  return mean + std::pow(step.least, (1 - config.gamma()) / 2) *
                    std::pow(step.most, config.gamma() / 2) * parts.noise();
}

// One forward step of the chain, from s to t.
at::Tensor step_forward(const SamplerParts& parts, const NoiseLevel& s, const NoiseLevel& t,
                        const at::Tensor& z) {
  const double kept = t.alpha / s.alpha;
  const double fresh = t.sigma * t.sigma - kept * kept * s.sigma * s.sigma;
  return kept * z + std::sqrt(std::max(0.0, fresh)) * parts.noise();
}

at::Tensor ancestral(const SamplerConfig& config, const NoiseSchedule& /*schedule*/,
                     const Levels& levels, const SamplerParts& parts, at::Tensor z) {
  for (size_t i = 0; i < levels.size(); ++i) {
    const NoiseLevel &t = levels[i], &s = after(levels, i);
    for (int again = config.resampling(); again > 0; --again) {
      at::Tensor back = step_back(config, parts, t, s, z);
      if (s.clean()) return back;
      z = again > 1 ? step_forward(parts, s, t, back) : correct(config, parts, s, std::move(back));
    }
  }
  return z;
}

at::Tensor implicit(const SamplerConfig& config, const Levels& levels, const SamplerParts& parts,
                    at::Tensor z, double eta) {
  for (size_t i = 0; i < levels.size(); ++i) {
    const NoiseLevel &t = levels[i], &s = after(levels, i);
    const at::Tensor image = parts.estimate(z, t).image;
    if (s.clean()) return image;
    const double fresh = eta * std::sqrt(reverse_step(t, s).least);
    const double kept = std::sqrt(std::max(0.0, s.sigma * s.sigma - fresh * fresh));
    z = s.alpha * image + kept * noise_in(z, image, t);
    if (fresh > 0) z = z + fresh * parts.noise();
    z = correct(config, parts, s, z);
  }
  return z;
}

at::Tensor ddim(const SamplerConfig& config, const NoiseSchedule& /*schedule*/,
                const Levels& levels, const SamplerParts& parts, at::Tensor z) {
  return implicit(config, levels, parts, std::move(z), config.eta());
}

// With y = z / alpha and u = sigma / alpha the flow is dy/du = e; Euler's step along it is DDIM.
at::Tensor euler(const SamplerConfig& config, const NoiseSchedule& /*schedule*/,
                 const Levels& levels, const SamplerParts& parts, at::Tensor z) {
  return implicit(config, levels, parts, std::move(z), 0);
}

// Adds noise to z, from level t up to the level it returns.
NoiseLevel churned(const SamplerConfig& config, const NoiseSchedule& schedule, size_t steps,
                   const NoiseLevel& t, const SamplerParts& parts, at::Tensor& z) {
  const double u = t.sigma / t.alpha;
  if (config.churn() == 0 || u < config.churn_min() || u > config.churn_max()) return t;
  const double grown =
      1 + std::min(config.churn() / static_cast<double>(steps), std::sqrt(2.0) - 1);
  const NoiseLevel up = schedule.at_log_snr(-2 * std::log(u * grown));
  const double fresh = u * std::sqrt(grown * grown - 1) * config.churn_noise();
  z = up.alpha * (z / t.alpha + fresh * parts.noise());
  return up;
}

at::Tensor heun(const SamplerConfig& config, const NoiseSchedule& schedule, const Levels& levels,
                const SamplerParts& parts, at::Tensor z) {
  for (size_t i = 0; i < levels.size(); ++i) {
    const NoiseLevel t = churned(config, schedule, levels.size(), levels[i], parts, z);
    const NoiseLevel& s = after(levels, i);
    const at::Tensor image = parts.estimate(z, t).image;
    if (s.clean()) return image;  // Euler's step to no noise
    const at::Tensor noise = noise_in(z, image, t);
    at::Tensor next = s.alpha * image + s.sigma * noise;
    const at::Tensor next_noise = noise_in(next, parts.estimate(next, s).image, s);
    // In y = z / alpha and u = sigma / alpha, the derivative is the mean of both ends'. Where alpha
    // is 0, u is infinite: Euler's step stands.
    const double length = t.alpha > 0 ? s.sigma - s.alpha * t.sigma / t.alpha : 0;
    next = next + length / 2 * (next_noise - noise);
    z = correct(config, parts, s, next);
  }
  return z;
}

at::Tensor dpm(const SamplerConfig& config, const NoiseSchedule& /*schedule*/, const Levels& levels,
               const SamplerParts& parts, at::Tensor z) {
  at::Tensor before;       // the last step's estimate
  double last_length = 0;  // in log(alpha / sigma)
  for (size_t i = 0; i < levels.size(); ++i) {
    const NoiseLevel &t = levels[i], &s = after(levels, i);
    const at::Tensor image = parts.estimate(z, t).image;
    if (s.clean()) return image;
    const double length = (s.log_snr() - t.log_snr()) / 2;
    const bool first_order = !before.defined() || !std::isfinite(last_length) ||
                             (config.lower_last() && i + 2 == levels.size());
    const double part = first_order ? 0 : length / (2 * last_length);
    const at::Tensor ahead = first_order ? image : (1 + part) * image - part * before;
    z = s.sigma / t.sigma * z - s.alpha * std::expm1(-length) * ahead;
    z = correct(config, parts, s, z);
    before = image;
    last_length = length;
  }
  return z;
}

constexpr auto kKinds = std::to_array<SamplerKind>({
    {"ANCESTRAL", ancestral,
     "a reverse step of the Markov chain with noise, whose variance gamma chooses (DDPM)"},
    {"DDIM", ddim, "a deterministic step, or with eta a partly random one"},
    {"EULER", euler, "a straight step along the probability flow; first order"},
    {"HEUN", heun, "EDM's sampler, second order, two evaluations a step; churn adds noise"},
    {"DPM", dpm, "DPM-Solver++(2M), second order, one evaluation a step; best with LOG_SNR"},
});

// Step `i` of `count`, least noisy first, of a table of `steps`.
int step_of_table(SamplerConfig::Spacing spacing, int i, int count, int steps) {
  if (spacing == SamplerConfig::STRIDE) return i * (steps / count);
  if (spacing == SamplerConfig::TRAILING) {
    return static_cast<int>(std::lround((i + 1.0) * steps / count)) - 1;
  }
  if (count == 1) return steps - 1;
  return static_cast<int>(std::lround(i * (steps - 1.0) / (count - 1)));
}

// `count` levels of a table, noisiest first.
Levels of_table(const NoiseSchedule& schedule, int count, SamplerConfig::Spacing spacing) {
  Levels levels;
  for (int i = 0; i < count; ++i) {
    levels.push_back(schedule.step(step_of_table(spacing, i, count, schedule.steps())));
  }
  std::reverse(levels.begin(), levels.end());
  return levels;
}

// The largest and smallest log(sigma / alpha) of sampling; both are finite.
std::pair<double, double> noise_range(const NoiseSchedule& schedule, int count) {
  const double first = schedule.steps() > 0 ? 1.0 / schedule.steps() : 0;
  const auto log_noise = [&](double time) { return -schedule.at(time).log_snr() / 2; };
  const double least = log_noise(first);
  return {std::min(log_noise(1), 10.0),
          std::isfinite(least) ? least : log_noise(1.0 / std::max(2, count))};
}

Levels in_noise(const SamplerConfig& config, const NoiseSchedule& schedule, int count) {
  const auto [most, least] = noise_range(schedule, count);
  const double power = config.spacing() == SamplerConfig::KARRAS ? 1 / config.rho() : 0;
  Levels levels;
  for (int i = 0; i < count; ++i) {
    const double u = count == 1 ? 0 : static_cast<double>(i) / (count - 1);
    const double log_noise =
        power == 0
            ? most + u * (least - most)
            : std::log((1 - u) * std::exp(power * most) + u * std::exp(power * least)) / power;
    levels.push_back(schedule.at_log_snr(-2 * log_noise));
  }
  return levels;
}

}  // namespace

std::span<const SamplerKind> sampler_kinds() { return kKinds; }

std::vector<NoiseLevel> sampling_levels(const SamplerConfig& config,
                                        const NoiseSchedule& schedule) {
  const int steps = schedule.steps();
  const int count = config.steps() > 0 ? config.steps() : steps > 0 ? steps : kContinuousSteps;
  switch (config.spacing()) {
    case SamplerConfig::LOG_SNR:
    case SamplerConfig::KARRAS:
      return in_noise(config, schedule, count);
    case SamplerConfig::STRIDE:
    case SamplerConfig::TRAILING:
    case SamplerConfig::TIME:
      break;
  }
  if (steps == 0) {
    if (config.spacing() != SamplerConfig::TIME) {
      fail(Code::kUsage, "model.diffusion.sampler.spacing is ",
           SamplerConfig::Spacing_Name(config.spacing()),
           ", which takes every n-th level of a table, and the schedule has none; expected TIME, "
           "LOG_SNR or KARRAS");
    }
    Levels levels;
    for (int i = 0; i < count; ++i) levels.push_back(schedule.grid_level(i, count));
    return levels;
  }
  if (count > steps) {
    fail(Code::kUsage, "model.diffusion.sampler.steps is ", count, ", expected no more than the ",
         steps, " levels of the schedule");
  }
  return of_table(schedule, count, config.spacing());
}

at::Tensor sample_from_noise(const SamplerConfig& config, const NoiseSchedule& schedule,
                             const SamplerParts& parts) {
  const Levels levels = sampling_levels(config, schedule);
  const auto& kind = kKinds.at(static_cast<size_t>(config.kind()));
  LF_CHECK(SamplerConfig::Kind_Name(config.kind()) == kind.name, "tables differ");
  SamplerParts stoppable = parts;
  stoppable.estimate = [&parts](const at::Tensor& z, const NoiseLevel& level) {
    interruption_point();
    return parts.estimate(z, level);
  };
  return kind.run(config, schedule, levels, stoppable,
                  schedule.start_deviation(levels.front()) * parts.noise());
}

}  // namespace lf
