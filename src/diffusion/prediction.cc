#include "diffusion/prediction.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lf {

Preconditioning preconditioning(DiffusionConfig::Prediction prediction, const NoiseLevel& level,
                                double sigma_data) {
  const double alpha = level.alpha, sigma = level.sigma;
  switch (prediction) {
    case DiffusionConfig::NOISE:
      return {1 / alpha, -sigma / alpha, 1, 0, 1};
    case DiffusionConfig::IMAGE:
      return {0, 1, 1, 1, 0};
    case DiffusionConfig::V: {
      const double square = alpha * alpha + sigma * sigma;  // 1 where variance is preserved
      return {alpha / square, -sigma / square, 1, -sigma, alpha};
    }
    case DiffusionConfig::PRECONDITIONED: {
      // EDM's, for z / alpha = x + (sigma / alpha) e; written so that alpha = 0 is no special case.
      const double root = std::hypot(sigma, alpha * sigma_data);
      return {alpha * sigma_data * sigma_data / (root * root), sigma * sigma_data / root, 1 / root,
              sigma / (root * sigma_data), -alpha * sigma_data / root};
    }
    case DiffusionConfig::VELOCITY:
      return {1 / (alpha + sigma), -sigma / (alpha + sigma), 1, -1, 1};
  }
  LF_CHECK(false, "no such prediction");
}

namespace {

double squares_weight(const DiffusionConfig& config, const NoiseLevel& level) {
  const double out =
      preconditioning(config.prediction(), level, config.sigma_data()).out;  // dx / dF
  const double data = config.sigma_data(), noise = level.sigma / level.alpha;
  const double snr = 1 / (noise * noise);
  switch (config.weight()) {
    case DiffusionConfig::UNIFORM:
      break;
    case DiffusionConfig::MIN_SNR:
      return std::min(snr, config.min_snr()) * out * out;
    case DiffusionConfig::EDM_WEIGHT: {
      const double root = std::hypot(1.0, data / noise);  // finite at alpha = 0
      return root * root / (data * data) * out * out;
    }
    case DiffusionConfig::SNR:
      return snr * out * out;
  }
  LF_CHECK(false, "no such weight");
}

}  // namespace

double loss_weight(const DiffusionConfig& config, const NoiseLevel& level) {
  if (config.weight() == DiffusionConfig::UNIFORM) return 1;
  const double weight = squares_weight(config, level);
  return config.error() == DiffusionConfig::L1 ? std::sqrt(weight) : weight;
}

}  // namespace lf
