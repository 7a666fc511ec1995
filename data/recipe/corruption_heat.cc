// Gaussian blur as heat flow: in the cosine basis of a frame with reflecting borders, coefficient
// (k, l) is multiplied by exp(-s^2/2 ((pi k / H)^2 + (pi l / W)^2)), which factors into one matrix
// for the columns and one for the rows. Blurs of s1 and s2 compose exactly to one of
// sqrt(s1^2 + s2^2).
#include "data/recipe/blur_steps.h"
#include "data/recipe/exact_math.h"

namespace lf {
namespace {

constexpr double kPi = 3.141592653589793;
constexpr double kLargestTables = 1 << 28;  // floats: 1 GiB

// M[i][j] = sum_k c_k e_k cos(pi k (2i+1) / 2n) cos(pi k (2j+1) / 2n) / n = h(i-j) + h(i+j+1), with
// h(d) = sum_k c_k e_k cos(pi k d / n) / 2n, c_0 = 1 and 2 otherwise.
std::vector<float> heat_matrix(int n, double sigma) {
  std::vector<double> decay, cosine(static_cast<size_t>(2 * n)), h(static_cast<size_t>(2 * n));
  for (int k = 0; k < n; ++k) {
    const double frequency = kPi * k / n;
    const double exponent = -0.5 * sigma * sigma * frequency * frequency;
    decay.push_back(exponent < -100 ? 0 : exact_exp(exponent));
  }
  for (int d = 0; d < 2 * n; ++d) cosine[static_cast<size_t>(d)] = exact_cos_pi(d, n);
  for (int d = 0; d < 2 * n; ++d) {
    double sum = 0;
    for (int k = n - 1; k >= 1; --k) {
      sum +=
          2 * decay[static_cast<size_t>(k)] * cosine[static_cast<size_t>(k * int64_t{d} % (2 * n))];
    }
    h[static_cast<size_t>(d)] = (sum + 1) / (2 * n);
  }
  std::vector<float> matrix;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      matrix.push_back(static_cast<float>(h[static_cast<size_t>(std::abs(i - j))] +
                                          h[static_cast<size_t>(i + j + 1)]));
    }
  }
  return matrix;
}

class HeatOperator : public BlurSteps {
 public:
  HeatOperator(const Setting& setting, std::vector<double> sigmas, double noise)
      : BlurSteps(setting, std::move(sigmas), noise) {
    for (const double sigma : sigmas_) {
      vertical_.push_back(heat_matrix(shape_.height, sigma));
      if (shape_.width != shape_.height) horizontal_.push_back(heat_matrix(shape_.width, sigma));
    }
  }
  std::string canonical() const override {
    return str("heat(sigmas=", list_text(sigmas_), ";noise=", list_text({noise_}), ")");
  }

 protected:
  void filter(const CorruptionStep& step, const float* in, float* out) const override {
    const size_t count = floats_of(shape_);
    const size_t at = static_cast<size_t>(step.s - 1);
    const int h = shape_.height, w = shape_.width, c = shape_.channels;
    float* columns_done = thread_floats(2, count);
    float* transposed = thread_floats(3, count);
    multiply_rows(vertical_[at].data(), h, in, columns_done, static_cast<size_t>(w * c));
    transpose(columns_done, transposed, h, w, c);
    multiply_rows((horizontal_.empty() ? vertical_ : horizontal_)[at].data(), w, transposed,
                  columns_done, static_cast<size_t>(h * c));
    transpose(columns_done, out, w, h, c);
  }

 private:
  std::vector<std::vector<float>> vertical_, horizontal_;
};

}  // namespace

std::unique_ptr<Operator> make_heat(const Setting& setting, const RecipeConfig& recipe) {
  const HeatConfig& config = recipe.heat();
  std::vector<double> sigmas = blur_sigmas(setting, config, "recipe.heat");
  if (setting.topology != RecipeConfig::CHAIN && !setting.in_composite && config.noise() == 0) {
    fail(Code::kUsage, "recipe.topology is ", RecipeConfig::Topology_Name(setting.topology),
         ", which adds nothing to CHAIN under blur alone; expected recipe.topology=CHAIN or "
         "recipe.heat.noise above 0 (0.02)");
  }
  const double h = setting.image.height, w = setting.image.width;
  const double floats = setting.steps * (h == w ? h * h : h * h + w * w);
  if (floats > kLargestTables) {
    fail(Code::kUsage, "recipe.heat at ", h, " x ", w, " with ", setting.steps, " steps needs ",
         human_bytes(static_cast<uint64_t>(4 * floats)), " of tables, expected at most ",
         human_bytes(static_cast<uint64_t>(4 * kLargestTables)), "; use recipe.blur");
  }
  return std::make_unique<HeatOperator>(setting, std::move(sigmas), config.noise());
}

}  // namespace lf
