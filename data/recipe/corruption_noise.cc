// Gaussian noise. Levels are those of images in [-1, 1], whose zero is grey level 127.5. Frame y_s
// is sum_j c_j y_j + fresh e by the topology's table (topology.h), in grey levels.
#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/frame_kernels.h"

namespace lf {
namespace {

constexpr double kMiddle = 127.5;

class NoiseOperator : public Operator {
 public:
  NoiseOperator(const Setting& setting, NoiseLevels levels)
      : count_(floats_of(setting.image)), levels_(std::move(levels)) {
    const NoiseTable table = noise_table(levels_, setting.topology, setting.window);
    for (const NoiseStep& step : table.steps) {
      Row row;
      double sum = 0;
      for (const double coefficient : step.coefficients) {
        row.weights.push_back(static_cast<float>(coefficient));
        sum += coefficient;
      }
      row.offset = static_cast<float>(kMiddle * (1 - sum));
      row.fresh = static_cast<float>(kMiddle * step.fresh);
      rows_.push_back(std::move(row));
    }
  }
  void apply(const CorruptionStep& step, float* out) const override {
    const Row& row = rows_[static_cast<size_t>(step.s)];
    mix_frames(step.parents, row.weights, row.offset, out, count_);
    add_noise(step, row.fresh, out, count_);
  }
  std::optional<FrameFormula> formula(int s, size_t) const override {
    const Row& row = rows_[static_cast<size_t>(s)];
    return FrameFormula{{}, row.weights, row.offset, {}, row.fresh};
  }
  bool random() const override { return true; }
  Bounds bounds() const override { return Bounds::kLost; }
  std::string canonical() const override {
    return str("noise(alpha=", list_text(levels_.alpha), ";sigma=", list_text(levels_.sigma), ")");
  }

 private:
  struct Row {
    std::vector<float> weights;
    float offset = 0, fresh = 0;
  };
  size_t count_;
  NoiseLevels levels_;
  std::vector<Row> rows_;
};

// Refuses options that have no effect with the chosen kind and schedule.
void check_options(const NoiseConfig& config) {
  const std::string prefix = "recipe.noise";
  const auto refuse = [&](std::initializer_list<const char*> options, const std::string& because) {
    refuse_changed(config, prefix, options, because);
  };
  if (config.kind() == NoiseConfig::VP) refuse({"sigmas"}, "recipe.noise.kind is VP");
  if (config.kind() == NoiseConfig::VE) refuse({"alpha_bars"}, "recipe.noise.kind is VE");
  if (config.sigmas_size() > 0 || config.alpha_bars_size() > 0) {
    return refuse({"schedule", "t_max", "beta_low", "beta_high", "sigma_min", "sigma_max"},
                  "an explicit list already gives every frame");
  }
  const std::string because =
      "recipe.noise.schedule is " + RecipeConfig::Schedule_Name(config.schedule());
  switch (config.schedule()) {
    case RecipeConfig::LINEAR_DDPM:
    case RecipeConfig::COSINE:
      return refuse({"beta_low", "beta_high", "sigma_min", "sigma_max"}, because);
    case RecipeConfig::LINEAR_BETA:
      return refuse({"t_max", "sigma_min", "sigma_max"}, because);
    case RecipeConfig::LINEAR:
      return refuse({"t_max", "beta_low", "beta_high", "sigma_min"}, because);
    case RecipeConfig::GEOMETRIC:
      return refuse({"t_max", "beta_low", "beta_high"}, because);
    case RecipeConfig::RAMP:
      return;  // refused by noise_levels
  }
}

}  // namespace

std::unique_ptr<Operator> make_noise(const Setting& setting, const RecipeConfig& recipe) {
  check_options(recipe.noise());
  return std::make_unique<NoiseOperator>(setting, noise_levels(recipe.noise(), setting.steps));
}

}  // namespace lf
