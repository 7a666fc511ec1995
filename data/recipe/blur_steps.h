// What the two Gaussian blurs have in common: their options turned into step strengths, and the
// frame around the filter itself (parents joined before it, noise added after it). Called by
// corruption_blur and corruption_heat.
#pragma once

#include <cmath>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/frame_kernels.h"
#include "data/recipe/schedule.h"

namespace lf {

// Strength of every step as the frame gets it: step by step, or in the STAR topology all at once.
template <typename Blur>
std::vector<double> blur_sigmas(const Setting& setting, const Blur& config,
                                const std::string& prefix) {
  std::vector<double> sigmas(config.sigmas().begin(), config.sigmas().end());
  if (!sigmas.empty()) {
    refuse_changed(config, prefix, {"strength", "ratio", "schedule"},
                   prefix + ".sigmas already gives every step");
    check_list(prefix + ".sigmas", config.sigmas_size(), setting.steps);
  } else {
    const double total = config.strength() * setting.image.height;
    if (config.schedule() == RecipeConfig::RAMP) {
      sigmas = ramp_sigmas(setting.steps, total, config.ratio());
    } else {
      if (config.schedule() == RecipeConfig::LINEAR_DDPM ||
          config.schedule() == RecipeConfig::LINEAR_BETA) {
        fail(Code::kUsage, prefix, ".schedule is ", RecipeConfig::Schedule_Name(config.schedule()),
             ", which is for noise; expected RAMP, LINEAR, COSINE or GEOMETRIC");
      }
      refuse_changed(config, prefix, {"ratio"}, prefix + ".schedule is not RAMP");
      std::vector<double> totals =
          level_table(config.schedule(), setting.steps, prefix + ".schedule");
      for (double& level : totals) level *= total;
      sigmas = steps_between(totals);
    }
  }
  if (setting.topology == RecipeConfig::STAR) {
    double squares = 0;
    for (double& sigma : sigmas) sigma = std::sqrt(squares += sigma * sigma);
  }
  return sigmas;
}

class BlurSteps : public Operator {
 public:
  BlurSteps(const Setting& setting, std::vector<double> sigmas, double noise)
      : shape_(setting.image), sigmas_(std::move(sigmas)), noise_(noise) {}

  void apply(const Step& step, float* out) const override {
    const size_t count = floats_of(shape_);
    const float* in = step.parents[0];
    const FrameFormula around = joined(step.parents.size());
    if (!around.weights.empty()) {
      float* mean = thread_floats(1, count);
      mix_frames(step.parents, around.weights, around.offset, mean, count);
      in = mean;
    }
    filter(step, in, out);
    if (around.noise > 0) add_noise(step, around.noise, out, count);
  }
  bool random() const override { return noise_ > 0; }
  Bounds bounds() const override { return noise_ > 0 ? Bounds::kLost : Bounds::kKept; }

 protected:
  virtual void filter(const Step& step, const float* in, float* out) const = 0;
  // What is done before the filter and after it.
  FrameFormula joined(size_t parents) const {
    FrameFormula formula;
    if (parents > 1) formula.weights.assign(parents, 1.0f / static_cast<float>(parents));
    formula.noise = noise_ > 0 ? static_cast<float>(255 * noise_) : 0;
    return formula;
  }

  ClipShape shape_;
  std::vector<double> sigmas_;
  double noise_;
};

}  // namespace lf
