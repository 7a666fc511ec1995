#include "diffusion/noise_schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.h"

namespace lf {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr double kLargestLogSnr = 20;

// log alpha^2 of every step of a table with these betas.
std::vector<double> accumulate(const std::vector<double>& betas) {
  std::vector<double> log_alpha_bars;
  double sum = 0;
  for (const double beta : betas) log_alpha_bars.push_back(sum += std::log1p(-beta));
  return log_alpha_bars;
}

std::vector<double> linear_betas(const DiffusionConfig& config) {
  const int steps = config.steps();
  const double scale = 1000.0 / steps, low = scale * config.beta_low(),
               high = scale * config.beta_high();
  if (low >= 1 || high >= 1) {
    fail(Code::kUsage, "model.diffusion.steps is ", steps, ", for which beta reaches ",
         std::max(low, high), ", expected less than 1; use more steps, smaller betas or COSINE");
  }
  const bool by_root = config.schedule() == DiffusionConfig::SCALED_LINEAR;
  std::vector<double> betas;
  for (int k = 0; k < steps; ++k) {
    const double u = static_cast<double>(k) / (steps - 1);
    const double root = std::sqrt(low) + u * (std::sqrt(high) - std::sqrt(low));
    betas.push_back(by_root ? root * root : low + u * (high - low));
  }
  return betas;
}

double cosine_alpha_bar(double u) {
  const double c = std::cos((u + 0.008) / 1.008 * kPi / 2);
  return c * c;
}

std::vector<double> cosine_betas(int steps, double most) {
  std::vector<double> betas;
  for (int k = 0; k < steps; ++k) {
    const double from = static_cast<double>(k) / steps, to = (k + 1.0) / steps;
    betas.push_back(std::min(most, 1 - cosine_alpha_bar(to) / cosine_alpha_bar(from)));
  }
  return betas;
}

// Zero terminal SNR: rescales alpha so that the last level has none and the first keeps its own.
void end_in_noise(std::vector<double>& log_alpha_bars) {
  const double first = std::exp(log_alpha_bars.front() / 2),
               last = std::exp(log_alpha_bars.back() / 2);
  for (double& value : log_alpha_bars) {
    const double alpha = (std::exp(value / 2) - last) * first / (first - last);
    value = alpha > 0 ? 2 * std::log(alpha) : -std::numeric_limits<double>::infinity();
  }
}

std::vector<double> table_of(const DiffusionConfig& config) {
  std::vector<double> betas;
  switch (config.schedule()) {
    case DiffusionConfig::LINEAR:
    case DiffusionConfig::SCALED_LINEAR:
      betas = linear_betas(config);
      break;
    case DiffusionConfig::COSINE:
      betas = cosine_betas(config.steps(), config.beta_max());
      break;
    case DiffusionConfig::COSINE_LOG_SNR:
    case DiffusionConfig::LINEAR_LOG_SNR:
    case DiffusionConfig::EDM:
    case DiffusionConfig::FLOW:
      return {};
  }
  std::vector<double> log_alpha_bars = accumulate(betas);
  if (config.zero_terminal_snr()) end_in_noise(log_alpha_bars);
  return log_alpha_bars;
}

constexpr auto kKinds = std::to_array<ScheduleKind>({
    {"LINEAR", "a table; beta in equal steps from beta_low to beta_high (DDPM)"},
    {"SCALED_LINEAR", "a table; the root of beta in equal steps"},
    {"COSINE",
     "a table; alpha^2 = cos^2((u + 0.008) / 1.008 pi / 2), beta <= beta_max (Improved DDPM)"},
    {"COSINE_LOG_SNR", "continuous; log SNR = -2 log tan(a u + b) in [-20, 20] (VDM)"},
    {"LINEAR_LOG_SNR", "continuous; log SNR falls in equal steps from 20 to -20"},
    {"EDM", "x + sigma e; log sigma is normal in training, Karras's steps from sigma_max down"},
    {"FLOW", "(1 - t) x + t e, straight lines (rectified flow)"},
});

}  // namespace

std::span<const ScheduleKind> schedule_kinds() { return kKinds; }

double NoiseLevel::log_snr() const { return 2 * (std::log(alpha) - std::log(sigma)); }

ReverseStep reverse_step(const NoiseLevel& t, const NoiseLevel& s) {
  // r = exp(lambda_t - lambda_s), written so that alpha_t = 0 and sigma_s = 0 are no special cases.
  const double ratio = s.sigma / t.sigma;
  const double r = std::pow(t.alpha / s.alpha * ratio, 2);
  return {t.alpha / s.alpha * ratio * ratio, (1 - r) * s.alpha, (1 - r) * s.sigma * s.sigma,
          (1 - r) * t.sigma * t.sigma};
}

NoiseSchedule::NoiseSchedule(const DiffusionConfig& config, int height)
    : config_(config), log_alpha_bars_(table_of(config)) {
  if (config.zero_terminal_snr() && steps() == 0) {
    fail(Code::kUsage, "model.diffusion.zero_terminal_snr changes the last step of a table, and ",
         DiffusionConfig::Schedule_Name(config.schedule()),
         " has none; leave it out, or choose LINEAR, SCALED_LINEAR or COSINE");
  }
  if (config.zero_terminal_snr() && config.prediction() == DiffusionConfig::NOISE) {
    fail(Code::kUsage,
         "model.diffusion.zero_terminal_snr ends in noise alone, where predicting "
         "NOISE says nothing about the image; set model.diffusion.prediction=V");
  }
  if (config.schedule() == DiffusionConfig::EDM && config.sigma_min() >= config.sigma_max()) {
    fail(Code::kUsage, "model.diffusion.sigma_min is ", config.sigma_min(),
         ", expected less than sigma_max, ", config.sigma_max());
  }
  if (config.reference_size() > 0) {
    log_shift_ = -2 * std::log(static_cast<double>(height) / config.reference_size());
  }
}

double NoiseSchedule::log_snr_at(double time) const {
  switch (config_.schedule()) {
    case DiffusionConfig::LINEAR:
    case DiffusionConfig::SCALED_LINEAR:
    case DiffusionConfig::COSINE: {
      double k = time * steps() - 1;                              // step -1 is clean
      if (std::abs(k - std::round(k)) < 1e-9) k = std::round(k);  // the table's entry, exactly
      const auto below = static_cast<int>(std::floor(std::clamp(k, -1.0, steps() - 1.0)));
      const auto value = [&](int i) { return i < 0 ? 0 : log_alpha_bars_[static_cast<size_t>(i)]; };
      const double part = std::clamp(k - below, 0.0, 1.0);
      const double log_alpha_bar =
          part == 0 ? value(below) : (1 - part) * value(below) + part * value(below + 1);
      return log_alpha_bar - std::log(-std::expm1(log_alpha_bar));
    }
    case DiffusionConfig::COSINE_LOG_SNR: {
      const double b = std::atan(std::exp(-kLargestLogSnr / 2));
      const double a = std::atan(std::exp(kLargestLogSnr / 2)) - b;
      return -2 * std::log(std::tan(a * time + b));
    }
    case DiffusionConfig::LINEAR_LOG_SNR:
      return kLargestLogSnr * (1 - 2 * time);
    case DiffusionConfig::EDM: {
      constexpr double kRho = 7;
      const double low = std::pow(config_.sigma_min(), 1 / kRho),
                   high = std::pow(config_.sigma_max(), 1 / kRho);
      return -2 * kRho * std::log(low + time * (high - low));
    }
    case DiffusionConfig::FLOW:
      return 2 * (std::log1p(-time) - std::log(time));
  }
  LF_CHECK(false, "no such schedule");
}

NoiseLevel NoiseSchedule::with_log_snr(double time, double log_snr) const {
  if (config_.schedule() == DiffusionConfig::EDM) return {time, 1, std::exp(-log_snr / 2)};
  if (config_.schedule() == DiffusionConfig::FLOW) {
    return {time, 1 / (1 + std::exp(-log_snr / 2)), 1 / (1 + std::exp(log_snr / 2))};
  }
  return {time, std::sqrt(1 / (1 + std::exp(-log_snr))), std::sqrt(1 / (1 + std::exp(log_snr)))};
}

NoiseLevel NoiseSchedule::at(double time) const {
  return with_log_snr(time, log_snr_at(time) + log_shift_);
}

NoiseLevel NoiseSchedule::at_log_snr(double log_snr) const {
  double cleaner = 0, noisier = 1;
  for (int i = 0; i < 60; ++i) {  // bisection to the last bit of a double
    const double middle = (cleaner + noisier) / 2;
    (log_snr_at(middle) + log_shift_ > log_snr ? cleaner : noisier) = middle;
  }
  return with_log_snr((cleaner + noisier) / 2, log_snr);
}

NoiseLevel NoiseSchedule::grid_level(int i, int count) const {
  // EDM's time 0 has sigma_min and is the grid's last level; elsewhere time 0 is the clean image.
  const int parts = config_.schedule() == DiffusionConfig::EDM ? std::max(1, count - 1) : count;
  return at(1 - static_cast<double>(i) / parts);
}

NoiseLevel NoiseSchedule::training_level(double uniform, double normal) const {
  if (steps() > 0) return step(std::min(steps() - 1, static_cast<int>(uniform * steps())));
  if (config_.schedule() == DiffusionConfig::EDM) {
    const double log_sigma = config_.log_sigma_mean() + config_.log_sigma_deviation() * normal;
    return at_log_snr(-2 * log_sigma + log_shift_);
  }
  if (config_.schedule() == DiffusionConfig::FLOW) {
    return at(1 / (1 + std::exp(-config_.logit_mean() - config_.logit_deviation() * normal)));
  }
  return at(uniform);
}

double NoiseSchedule::signal(const NoiseLevel& level) const {
  if (steps() > 0) return 1000.0 * (level.time - 1.0 / steps());
  const double log_snr = std::clamp(level.log_snr(), -kLargestLogSnr, kLargestLogSnr);
  return 1000 * 2 / kPi * std::atan(std::exp(-log_snr / 2));
}

double NoiseSchedule::start_deviation(const NoiseLevel& level) const {
  return config_.schedule() == DiffusionConfig::EDM ? level.sigma : 1;
}

}  // namespace lf
