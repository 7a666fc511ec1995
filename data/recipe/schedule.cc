#include "data/recipe/schedule.h"

#include <cmath>

#include "base/error.h"
#include "data/recipe/exact_math.h"

namespace lf {
namespace {

constexpr double kGeometricStart = 0.1;

// cos^2(pi/2 (t + 0.008) / 1.008) of t = t_thousandths / (1000 parts), in integers until the
// cosine.
double improved_ddpm_curve(int64_t t_thousandths, int64_t parts) {
  // (t/(1000 parts) + 0.008) / 1.008 / 2 = (t + 8 parts) / (2016 parts)
  const double c = exact_cos_pi(t_thousandths + 8 * parts, 2016 * parts);
  return c * c;
}

// alpha-bar of each step.
std::vector<double> alpha_bars(const NoiseConfig& config, int steps) {
  std::vector<double> out;
  double product = 1;
  for (int s = 1; s <= steps; ++s) {
    const double u = static_cast<double>(s) / steps;
    switch (config.schedule()) {
      case RecipeConfig::LINEAR_DDPM: {
        const double t = std::nearbyint(config.t_max() * u);
        out.push_back(ddpm_alpha_bar(static_cast<int>(t)));
        break;
      }
      case RecipeConfig::LINEAR_BETA: {
        const double along = steps == 1 ? 1 : static_cast<double>(s - 1) / (steps - 1);
        product *= 1 - (config.beta_low() + (config.beta_high() - config.beta_low()) * along);
        out.push_back(product);
        break;
      }
      case RecipeConfig::COSINE:
        out.push_back(improved_ddpm_curve(int64_t{config.t_max()} * s, steps) /
                      improved_ddpm_curve(0, steps));
        break;
      case RecipeConfig::LINEAR:
      case RecipeConfig::GEOMETRIC: {
        const double along = steps == 1 ? 1 : static_cast<double>(s - 1) / (steps - 1);
        const double sigma =
            config.schedule() == RecipeConfig::LINEAR
                ? config.sigma_max() * u
                : config.sigma_min() * exact_pow(config.sigma_max() / config.sigma_min(), along);
        out.push_back(1 / (1 + sigma * sigma));
        break;
      }
      case RecipeConfig::RAMP:
        fail(Code::kUsage,
             "recipe.noise.schedule is RAMP, which is for blur; expected LINEAR_DDPM, LINEAR_BETA, "
             "COSINE, LINEAR or GEOMETRIC");
    }
  }
  return out;
}

void check_length(const char* option, int given, int steps) {
  if (given != steps) {
    fail(Code::kUsage, option, " has ", given, " values, expected ", steps,
         " (recipe.frames - 1, cleanest step first)");
  }
}

}  // namespace

std::vector<double> level_table(RecipeConfig::Schedule schedule, int steps,
                                const std::string& option) {
  std::vector<double> levels;
  for (int s = 1; s <= steps; ++s) {
    const double u = static_cast<double>(s) / steps;
    switch (schedule) {
      case RecipeConfig::LINEAR:
        levels.push_back(u);
        break;
      case RecipeConfig::COSINE:
        levels.push_back(1 - exact_cos_pi(s, 2 * int64_t{steps}));
        break;
      case RecipeConfig::GEOMETRIC:
        levels.push_back(
            steps == 1 ? 1
                       : exact_pow(kGeometricStart, 1 - static_cast<double>(s - 1) / (steps - 1)));
        break;
      case RecipeConfig::RAMP:
      case RecipeConfig::LINEAR_DDPM:
      case RecipeConfig::LINEAR_BETA:
        fail(Code::kUsage, option, " is ", RecipeConfig::Schedule_Name(schedule),
             schedule == RecipeConfig::RAMP ? ", which is for blur" : ", which is for noise",
             "; expected LINEAR, COSINE or GEOMETRIC");
    }
  }
  return levels;
}

std::vector<double> ramp_sigmas(int steps, double total, double ratio) {
  std::vector<double> sigmas;
  double squares = 0;
  for (int i = 0; i < steps; ++i) {
    const double r = steps == 1 ? 1 : 1 + (ratio - 1) * i / (steps - 1);
    sigmas.push_back(r);
    squares += r * r;
  }
  for (double& sigma : sigmas) sigma *= total / std::sqrt(squares);
  return sigmas;
}

std::vector<double> steps_between(const std::vector<double>& totals) {
  std::vector<double> out;
  double before = 0;
  for (const double total : totals) {
    out.push_back(std::sqrt(total * total - before * before));
    before = total;
  }
  return out;
}

double ddpm_alpha_bar(int t) {
  LF_CHECK(t >= 0 && t <= 1000);
  double product = 1;
  for (int i = 0; i < t; ++i) product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999);
  return product;
}

NoiseLevels noise_levels(const NoiseConfig& config, int steps) {
  NoiseLevels levels{{1}, {0}};
  const bool vp = config.kind() == NoiseConfig::VP;
  if (!vp && config.sigmas_size() > 0) {
    check_length("recipe.noise.sigmas", config.sigmas_size(), steps);
    levels.alpha.resize(static_cast<size_t>(steps) + 1, 1);
    levels.sigma.insert(levels.sigma.end(), config.sigmas().begin(), config.sigmas().end());
  } else {
    std::vector<double> bars(config.alpha_bars().begin(), config.alpha_bars().end());
    if (!bars.empty()) check_length("recipe.noise.alpha_bars", config.alpha_bars_size(), steps);
    if (bars.empty()) bars = alpha_bars(config, steps);
    for (const double bar : bars) {
      levels.alpha.push_back(vp ? std::sqrt(bar) : 1);
      levels.sigma.push_back(vp ? std::sqrt(1 - bar) : std::sqrt((1 - bar) / bar));
    }
  }
  for (size_t s = 1; s < levels.alpha.size(); ++s) {
    if (levels.sigma[s] / levels.alpha[s] <= levels.sigma[s - 1] / levels.alpha[s - 1]) {
      fail(
          Code::kUsage, "recipe.noise: frame ", s, " from the image is not noisier than the one ",
          "before it (sigma / alpha ", levels.sigma[s] / levels.alpha[s], " after ",
          levels.sigma[s - 1] / levels.alpha[s - 1],
          "); expected noise that grows: rising sigmas, falling alpha_bars, sigma_min < sigma_max, "
          "t_max >= recipe.frames - 1");
    }
  }
  return levels;
}

}  // namespace lf
