// Colour quantisation: q grey levels per channel, evenly spaced from 0 to 255, optionally with a
// uniform dither one step wide.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/exact_math.h"
#include "data/recipe/frame_kernels.h"
#include "data/recipe/schedule.h"

namespace lf {
namespace {

class QuantiseOperator : public Operator {
 public:
  QuantiseOperator(const Setting& setting, std::vector<int> levels, bool dither)
      : count_(floats_of(setting.image)), levels_(std::move(levels)), dither_(dither) {}
  void apply(const CorruptionStep& step, float* out) const override {
    constexpr size_t kPiece = 4096;
    float values[kPiece];
    const int levels = levels_[static_cast<size_t>(step.s - 1)];
    for (size_t at = 0; at < count_; at += kPiece) {
      const size_t n = std::min(kPiece, count_ - at);
      if (dither_) uniform(stream_of(step), at, n, values);
      quantise_frame(step.parents[0] + at, dither_ ? values : nullptr, levels, out + at, n);
    }
  }
  bool random() const override { return dither_; }
  Bounds bounds() const override { return Bounds::kRestored; }
  std::string canonical() const override {
    return str("quantise(levels=", list_text({levels_.begin(), levels_.end()}), ";dither=", dither_,
               ")");
  }

 private:
  size_t count_;
  std::vector<int> levels_;
  bool dither_;
};

}  // namespace

std::unique_ptr<Operator> make_quantise(const Setting& setting, const RecipeConfig& recipe) {
  const QuantiseConfig& config = recipe.quantise();
  std::vector<int> levels(config.levels().begin(), config.levels().end());
  if (!levels.empty()) {
    refuse_changed(config, "recipe.quantise", {"fewest", "schedule"},
                   "recipe.quantise.levels already gives every frame");
    check_list("recipe.quantise.levels", config.levels_size(), setting.steps);
  } else {
    const double bits_lost = 8 - exact_log(config.fewest()) / exact_log(2);
    for (const double level :
         level_table(config.schedule(), setting.steps, "recipe.quantise.schedule")) {
      const double bits = 8 - level * bits_lost;
      // Integer bit depths nest: each level is a function of the one before.
      const double q =
          exact_pow(2, setting.topology == RecipeConfig::CHAIN ? std::floor(bits + 1e-9) : bits);
      levels.push_back(std::max(config.fewest(), static_cast<int>(std::floor(q + 0.5))));
    }
  }
  for (size_t i = 1; i < levels.size(); ++i) {
    if (levels[i] > levels[i - 1]) {
      fail(Code::kUsage, "recipe.quantise.levels rises from ", levels[i - 1], " to ", levels[i],
           "; expected the cleanest frame first");
    }
  }
  if (setting.topology == RecipeConfig::STAR && !config.dither() && !setting.in_composite) {
    fail(Code::kUsage,
         "recipe.topology is STAR, which needs randomness in every frame; expected "
         "recipe.quantise.dither=true, or recipe.topology=CHAIN");
  }
  return std::make_unique<QuantiseOperator>(setting, std::move(levels), config.dither());
}

}  // namespace lf
