// What the two Gaussian blurs share: step strengths from options, and the operator around the
// filter (the mean of the parents before it, noise after it).
#pragma once

#include <cmath>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/frame_kernels.h"
#include "data/recipe/schedule.h"

namespace lf {

// The sigma that each step applies: its own, or in the STAR topology that of all steps so far.
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

  void apply(const CorruptionStep& step, float* out) const override {
    const size_t count = floats_of(shape_);
    const float* in = step.parents[0];
    const FrameFormula formula = without_blur(step.parents.size());
    if (!formula.weights.empty()) {
      float* mean = thread_floats(1, count);
      mix_frames(step.parents, formula.weights, formula.offset, mean, count);
      in = mean;
    }
    filter(step, in, out);
    if (formula.noise > 0) add_noise(step, formula.noise, out, count);
  }
  bool random() const override { return noise_ > 0; }
  Bounds bounds() const override { return noise_ > 0 ? Bounds::kLost : Bounds::kKept; }

 protected:
  virtual void filter(const CorruptionStep& step, const float* in, float* out) const = 0;
  // The formula of a frame but for its blur.
  FrameFormula without_blur(size_t parents) const {
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
