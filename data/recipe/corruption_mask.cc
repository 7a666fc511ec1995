// Dropped pixels and blocks. Every block of a frame comes from one of the frame's parents, chosen
// uniformly, and is kept with probability (1 - p_s) / (1 - p_parent), so that every topology drops
// the share p_s of the blocks of frame s. CHAIN gives nested masks, STAR independent ones. One
// 32-bit uniform draw decides a block.
#include <cmath>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/schedule.h"

namespace lf {
namespace {

class MaskOperator : public Operator {
 public:
  MaskOperator(const Setting& setting, std::vector<double> rates, int block, double fill)
      : shape_(setting.image),
        rates_(std::move(rates)),
        block_(block),
        fill_(static_cast<float>(fill)) {
    for (int s = 1; s <= setting.steps; ++s) {
      std::vector<uint64_t> thresholds;
      for (const int j : parents_of(setting.topology, setting.window, s)) {
        const double keep = (1 - rate(s)) / (1 - rate(j));
        thresholds.push_back(static_cast<uint64_t>(std::floor(keep * 0x1p32 + 0.5)));
      }
      thresholds_.push_back(std::move(thresholds));
    }
  }
  void apply(const CorruptionStep& step, float* out) const override {
    const int across = (shape_.width + block_ - 1) / block_;
    const int down = (shape_.height + block_ - 1) / block_;
    thread_local std::vector<uint32_t> draws;
    draws.resize(static_cast<size_t>(across) * static_cast<size_t>(down));
    uniform_bits(stream_of(step), 0, draws.size(), draws.data());
    const std::vector<uint64_t>& thresholds = thresholds_[static_cast<size_t>(step.s - 1)];
    const size_t channels = static_cast<size_t>(shape_.channels);
    const size_t row = static_cast<size_t>(shape_.width) * channels;
    for (int y = 0; y < shape_.height; ++y) {
      const uint32_t* line =
          draws.data() + static_cast<size_t>(y / block_) * static_cast<size_t>(across);
      for (int bx = 0; bx < across; ++bx) {
        const uint64_t scaled = static_cast<uint64_t>(line[bx]) * thresholds.size();
        const size_t parent = scaled >> 32;
        const bool keep = (scaled & 0xffffffffu) < thresholds[parent];
        const size_t begin =
            static_cast<size_t>(y) * row + static_cast<size_t>(bx * block_) * channels;
        const size_t end =
            static_cast<size_t>(y) * row +
            static_cast<size_t>(std::min((bx + 1) * block_, shape_.width)) * channels;
        for (size_t i = begin; i < end; ++i) out[i] = keep ? step.parents[parent][i] : fill_;
      }
    }
  }
  bool random() const override { return true; }
  std::string canonical() const override {
    return str("mask(rates=", list_text(rates_), ";block=", block_, ";fill=", list_text({fill_}),
               ")");
  }

 private:
  double rate(int s) const { return s == 0 ? 0 : rates_[static_cast<size_t>(s - 1)]; }

  ClipShape shape_;
  std::vector<double> rates_;
  int block_;
  float fill_;
  std::vector<std::vector<uint64_t>> thresholds_;  // [s - 1][parent], in units of 2^-32
};

}  // namespace

std::unique_ptr<Operator> make_mask(const Setting& setting, const RecipeConfig& recipe) {
  const MaskConfig& config = recipe.mask();
  std::vector<double> rates(config.rates().begin(), config.rates().end());
  if (!rates.empty()) {
    refuse_changed(config, "recipe.mask", {"rate_max", "schedule"},
                   "recipe.mask.rates already gives every frame");
    check_list("recipe.mask.rates", config.rates_size(), setting.steps);
  } else {
    rates = level_table(config.schedule(), setting.steps, "recipe.mask.schedule");
    for (double& rate : rates) rate *= config.rate_max();
  }
  for (size_t i = 1; i < rates.size(); ++i) {
    if (rates[i] < rates[i - 1]) {
      fail(Code::kUsage, "recipe.mask.rates falls from ", rates[i - 1], " to ", rates[i],
           "; expected the cleanest frame first");
    }
  }
  const int side = std::max(setting.image.height, setting.image.width);
  if (config.block() > side) {
    fail(Code::kUsage, "recipe.mask.block is ", config.block(),
         ", expected at most the image's side, ", side);
  }
  return std::make_unique<MaskOperator>(setting, std::move(rates), config.block(), config.fill());
}

}  // namespace lf
