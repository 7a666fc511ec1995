// Gaussian blur with sampled kernels. Kernels are truncated, so very small steps deliver less than
// their nominal variance (those of corruption_heat deliver all of it).
#include "data/recipe/blur_steps.h"

namespace lf {
namespace {

constexpr size_t kDirections = 16;
constexpr double kLargestKernels = 1 << 24;  // floats of all steps' kernels: 64 MiB

class BlurOperator : public BlurSteps {
 public:
  BlurOperator(const Setting& setting, std::vector<double> sigmas, double noise, bool directions)
      : BlurSteps(setting, std::move(sigmas), noise), directions_(directions) {
    for (const double sigma : sigmas_) {
      if (!directions_) {
        kernels_.push_back(gaussian_kernel(sigma));
        continue;
      }
      // The variance 2 sigma^2 is split between columns (this share of it) and rows.
      for (size_t k = 0; k < kDirections; ++k) {
        const double share = (static_cast<double>(k) + 0.5) / kDirections;
        kernels_.push_back(gaussian_kernel(sigma * std::sqrt(2 * share)));
      }
    }
  }
  std::optional<FrameFormula> formula(int s, size_t parents) const override {
    if (directions_) return {};
    FrameFormula formula = without_blur(parents);
    formula.blur = kernels_[static_cast<size_t>(s - 1)];
    return formula;
  }
  bool random() const override { return directions_ || BlurSteps::random(); }
  std::string canonical() const override {
    return str("blur(sigmas=", list_text(sigmas_), ";noise=", list_text({noise_}),
               ";random_direction=", directions_, ")");
  }

 protected:
  void filter(const CorruptionStep& step, const float* in, float* out) const override {
    const size_t at = static_cast<size_t>(step.s - 1) * (directions_ ? kDirections : 1);
    const Kernel1D* vertical = &kernels_[at];
    const Kernel1D* horizontal = vertical;
    if (directions_) {
      Stream stream = stream_of(step);
      stream.c |= 0x80000000u;  // another stream than the noise
      const size_t share = random_below(stream, 0, kDirections);
      vertical = &kernels_[at + share];
      horizontal = &kernels_[at + kDirections - 1 - share];
    }
    thread_local std::vector<float> line;
    blur_frame(in, out, shape_, *vertical, *horizontal, line);
  }

 private:
  bool directions_;
  std::vector<Kernel1D> kernels_;
};

}  // namespace

std::unique_ptr<Operator> make_blur(const Setting& setting, const RecipeConfig& recipe) {
  const BlurConfig& config = recipe.blur();
  std::vector<double> sigmas = blur_sigmas(setting, config, "recipe.blur");
  if (config.random_direction() && setting.topology != RecipeConfig::STAR) {
    fail(Code::kUsage, "recipe.blur.random_direction needs recipe.topology=STAR, which is ",
         RecipeConfig::Topology_Name(setting.topology));
  }
  if (setting.topology != RecipeConfig::CHAIN && !setting.in_composite && config.noise() == 0 &&
      !config.random_direction()) {
    fail(Code::kUsage, "recipe.topology is ", RecipeConfig::Topology_Name(setting.topology),
         ", which adds nothing to CHAIN under blur alone; expected recipe.topology=CHAIN, "
         "recipe.blur.noise above 0 (0.02) or, with STAR, recipe.blur.random_direction=true");
  }
  double floats = 0;
  for (const double sigma : sigmas) {
    floats += (4 * sigma + 2) * (config.random_direction() ? kDirections : 1);
  }
  if (floats > kLargestKernels) {
    fail(Code::kUsage, "recipe.blur needs kernels of ",
         human_bytes(static_cast<uint64_t>(4 * floats)), " for its ", sigmas.size(),
         " steps, expected at most ", human_bytes(static_cast<uint64_t>(4 * kLargestKernels)),
         "; blur less, or take fewer frames");
  }
  return std::make_unique<BlurOperator>(setting, std::move(sigmas), config.noise(),
                                        config.random_direction());
}

}  // namespace lf
