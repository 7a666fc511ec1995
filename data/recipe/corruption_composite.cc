// Several operators in order: each step applies all of them to its frame, each with random numbers
// of its own.
#include "base/error.h"
#include "data/recipe/corruption.h"

namespace lf {
namespace {

constexpr int kMostOperators = 16;

class CompositeOperator : public Operator {
 public:
  CompositeOperator(const Setting& setting, std::vector<std::unique_ptr<Operator>> operators)
      : count_(floats_of(setting.image)), operators_(std::move(operators)) {}
  void apply(const CorruptionStep& step, float* out) const override {
    // Ping-pong between `out` and another frame so that the last lands in `out`.
    float* other = thread_floats(0, count_);
    const float* in = step.parents[0];
    for (size_t i = 0; i < operators_.size(); ++i) {
      float* to = (operators_.size() - i) % 2 == 1 ? out : other;
      CorruptionStep inner = step;
      inner.parents = {&in, 1};
      inner.place = static_cast<uint32_t>(i) + 1;
      operators_[i]->apply(inner, to);
      in = to;
    }
  }
  bool random() const override {
    for (const auto& one : operators_) {
      if (one->random()) return true;
    }
    return false;
  }
  Bounds bounds() const override {
    Bounds bounds = Bounds::kKept;
    for (const auto& one : operators_) {
      if (one->bounds() != Bounds::kKept) bounds = one->bounds();
    }
    return bounds;
  }
  std::string canonical() const override {
    std::vector<std::string> parts;
    for (const auto& one : operators_) parts.push_back(one->canonical());
    return str("composite(", join(parts, ";"), ")");
  }

 private:
  size_t count_;
  std::vector<std::unique_ptr<Operator>> operators_;
};

// The recipe that holds only this operator: it is then made as it would be outside a composite.
RecipeConfig recipe_of(const OperatorConfig& config, int position) {
  RecipeConfig recipe;
  switch (config.corruption_case()) {
    case OperatorConfig::kBlur:
      *recipe.mutable_blur() = config.blur();
      break;
    case OperatorConfig::kHeat:
      *recipe.mutable_heat() = config.heat();
      break;
    case OperatorConfig::kNoise:
      *recipe.mutable_noise() = config.noise();
      break;
    case OperatorConfig::kMask:
      *recipe.mutable_mask() = config.mask();
      break;
    case OperatorConfig::kPixelate:
      *recipe.mutable_pixelate() = config.pixelate();
      break;
    case OperatorConfig::kDownsample:
      *recipe.mutable_downsample() = config.downsample();
      break;
    case OperatorConfig::kQuantise:
      *recipe.mutable_quantise() = config.quantise();
      break;
    case OperatorConfig::CORRUPTION_NOT_SET:
      fail(Code::kUsage, "recipe.composite.operators: number ", position + 1,
           " is empty, expected blur, heat, noise, mask, pixelate, downsample or quantise");
  }
  return recipe;
}

}  // namespace

std::unique_ptr<Operator> make_composite(const Setting& setting, const RecipeConfig& recipe) {
  const CompositeConfig& config = recipe.composite();
  if (config.operators_size() == 0 || config.operators_size() > kMostOperators) {
    fail(Code::kUsage, "recipe.composite.operators has ", config.operators_size(),
         " operators, expected 1 to ", kMostOperators,
         ", such as --set 'recipe.composite.operators={blur {}},{noise {}}'");
  }
  std::vector<std::unique_ptr<Operator>> operators;
  for (int i = 0; i < config.operators_size(); ++i) {
    Setting inner = setting;
    inner.in_composite = true;
    operators.push_back(make_operator(inner, recipe_of(config.operators(i), i)));
  }
  auto composite = std::make_unique<CompositeOperator>(setting, std::move(operators));
  if (setting.topology == RecipeConfig::STAR && !composite->random()) {
    fail(
        Code::kUsage,
        "recipe.topology is STAR, but no operator of recipe.composite has randomness; expected one "
        "that has (noise, mask), or recipe.topology=CHAIN");
  }
  return composite;
}

}  // namespace lf
