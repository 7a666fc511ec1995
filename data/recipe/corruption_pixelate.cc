// Pixelation and downsampling: means over the blocks of a grid, constant over each block or
// interpolated between the blocks' centres. Grids of CHAIN nest. Those of STAR do not: their block
// sizes do not divide each other, or every frame's grid has its own random offset. Only + - * /, so
// that any vectorisation gives the same bits.
#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "data/recipe/corruption.h"
#include "data/recipe/schedule.h"

namespace lf {
namespace {

// Blocks along one axis: block b holds the pixels i with (i + offset) / size == b.
struct Axis {
  int pixels, size, offset;
  int blocks() const { return (pixels - 1 + offset) / size + 1; }
  int begin(int b) const { return std::max(0, b * size - offset); }
  int end(int b) const { return std::min(pixels, (b + 1) * size - offset); }
  // The two blocks whose centres are around pixel i, and its position between them in [0, 1].
  void between(int i, int* low, int* high, float* part) const {
    const int twice = 2 * (i + offset) + 1 - size;  // distance from block 0's centre, doubled
    const int b = twice >= 0 ? twice / (2 * size) : -1;
    *part = static_cast<float>(twice - b * 2 * size) / static_cast<float>(2 * size);
    *low = std::clamp(b, 0, blocks() - 1);
    *high = std::clamp(b + 1, 0, blocks() - 1);
  }
};

// Means [rows of blocks, columns of blocks, channels]: rows are summed first, then columns, in
// order.
void block_means(const float* in, const Axis& y, const Axis& x, int channels, float* sums,
                 float* means) {
  const size_t row = static_cast<size_t>(x.pixels * channels);
  for (int by = 0; by < y.blocks(); ++by) {
    std::fill_n(sums, row, 0.0f);
    for (int i = y.begin(by); i < y.end(by); ++i) {
      const float* line = in + static_cast<size_t>(i) * row;
      for (size_t k = 0; k < row; ++k) sums[k] += line[k];
    }
    for (int bx = 0; bx < x.blocks(); ++bx) {
      const float pixels =
          static_cast<float>((y.end(by) - y.begin(by)) * (x.end(bx) - x.begin(bx)));
      for (int c = 0; c < channels; ++c) {
        float sum = 0;
        for (int i = x.begin(bx); i < x.end(bx); ++i) sum += sums[i * channels + c];
        *means++ = sum / pixels;
      }
    }
  }
}

void spread(const float* means, const Axis& y, const Axis& x, int channels, float* out) {
  for (int i = 0; i < y.pixels; ++i) {
    const float* line = means + static_cast<size_t>((i + y.offset) / y.size) *
                                    static_cast<size_t>(x.blocks() * channels);
    for (int j = 0; j < x.pixels; ++j) {
      const float* mean = line + (j + x.offset) / x.size * channels;
      for (int c = 0; c < channels; ++c) *out++ = mean[c];
    }
  }
}

void interpolate(const float* means, const Axis& y, const Axis& x, int channels, float* out) {
  const size_t row = static_cast<size_t>(x.blocks() * channels);
  for (int i = 0; i < y.pixels; ++i) {
    int top = 0, bottom = 0, left = 0, right = 0;
    float down = 0, along = 0;
    y.between(i, &top, &bottom, &down);
    const float* a = means + static_cast<size_t>(top) * row;
    const float* b = means + static_cast<size_t>(bottom) * row;
    for (int j = 0; j < x.pixels; ++j) {
      x.between(j, &left, &right, &along);
      for (int c = 0; c < channels; ++c) {
        const float l =
            a[left * channels + c] + down * (b[left * channels + c] - a[left * channels + c]);
        const float r =
            a[right * channels + c] + down * (b[right * channels + c] - a[right * channels + c]);
        *out++ = l + along * (r - l);
      }
    }
  }
}

class GridOperator : public Operator {
 public:
  GridOperator(const Setting& setting, std::vector<int> blocks, bool random_offset, bool smooth)
      : shape_(setting.image),
        blocks_(std::move(blocks)),
        random_(random_offset),
        smooth_(smooth) {}
  void apply(const CorruptionStep& step, float* out) const override {
    const int size = blocks_[static_cast<size_t>(step.s - 1)];
    Axis y{shape_.height, size, 0}, x{shape_.width, size, 0};
    if (random_) {
      y.offset = static_cast<int>(random_below(stream_of(step), 0, static_cast<uint64_t>(size)));
      x.offset = static_cast<int>(random_below(stream_of(step), 1, static_cast<uint64_t>(size)));
    }
    float* means = thread_floats(
        1, static_cast<size_t>(y.blocks()) * static_cast<size_t>(x.blocks() * shape_.channels));
    float* sums = thread_floats(2, static_cast<size_t>(shape_.width * shape_.channels));
    block_means(step.parents[0], y, x, shape_.channels, sums, means);
    (smooth_ ? interpolate : spread)(means, y, x, shape_.channels, out);
  }
  bool random() const override { return random_; }
  std::string canonical() const override {
    return str(smooth_ ? "downsample(factors=" : "pixelate(blocks=",
               list_text({blocks_.begin(), blocks_.end()}), ";random_offset=", random_, ")");
  }

 private:
  ClipShape shape_;
  std::vector<int> blocks_;
  bool random_, smooth_;
};

std::string divisors_text(int a, int b) {
  std::vector<std::string> out;
  for (int k = 2; k <= std::min(a, b); ++k) {
    if (a % k == 0 && b % k == 0) out.push_back(std::to_string(k));
  }
  return out.empty() ? "none" : join(out, ", ");
}

// Powers of two whose exponent grows by the schedule; a step is at least 2.
std::vector<int> powers(int largest, const std::vector<double>& levels) {
  std::vector<int> out;
  const int exponent = std::countr_zero(static_cast<unsigned>(largest));
  for (const double level : levels) {
    out.push_back(1 << std::max(1, static_cast<int>(std::ceil(level * exponent - 1e-9))));
  }
  return out;
}

// Nested grids, the last one fitting the image.
void check_nesting(const Setting& setting, const std::vector<int>& blocks,
                   const std::string& option) {
  const ClipShape& image = setting.image;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (image.height % blocks[i] != 0 || image.width % blocks[i] != 0) {
      fail(Code::kUsage, option, " holds ", blocks[i], ", which does not divide ", image.height,
           " x ", image.width,
           "; legal values with recipe.topology=CHAIN: ", divisors_text(image.height, image.width));
    }
    if (i > 0 && blocks[i] % blocks[i - 1] != 0) {
      fail(Code::kUsage, option, ": ", blocks[i - 1], " does not divide ", blocks[i],
           ", and grids of recipe.topology=CHAIN nest; expected each to divide the next");
    }
  }
}

void check_star(const std::vector<int>& blocks, const std::string& prefix,
                const std::string& option) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t k = i + 1; k < blocks.size(); ++k) {
      if (blocks[k] % blocks[i] != 0 && blocks[i] % blocks[k] != 0) continue;
      fail(Code::kUsage, option, ": ", blocks[i], " and ", blocks[k],
           " nest, so recipe.topology=STAR adds nothing to CHAIN; expected ", prefix,
           ".random_offset=true, or sizes that do not divide each other");
    }
  }
}

template <typename GridConfig>
std::unique_ptr<Operator> make_grid(const Setting& setting, const GridConfig& config,
                                    const google::protobuf::RepeatedField<int32_t>& given,
                                    const std::string& prefix, const std::string& list,
                                    bool smooth) {
  std::vector<int> blocks(given.begin(), given.end());
  std::string option = prefix + "." + list;
  if (!blocks.empty()) {
    refuse_changed(config, prefix, {"largest", "schedule"}, option + " already gives every frame");
    check_list(option, given.size(), setting.steps);
  } else {
    option = prefix + ".largest";
    if (!std::has_single_bit(static_cast<unsigned>(config.largest()))) {
      fail(Code::kUsage, option, " is ", config.largest(), ", expected a power of two");
    }
    blocks = powers(config.largest(),
                    level_table(config.schedule(), setting.steps, prefix + ".schedule"));
  }
  const int side = std::min(setting.image.height, setting.image.width);
  for (const int block : blocks) {
    if (block > side) {
      fail(Code::kUsage, option, " holds ", block, ", expected at most the image's smaller side, ",
           side);
    }
  }
  if (config.random_offset() && setting.topology != RecipeConfig::STAR) {
    fail(Code::kUsage, prefix, ".random_offset needs recipe.topology=STAR, which is ",
         RecipeConfig::Topology_Name(setting.topology));
  }
  if (setting.topology == RecipeConfig::CHAIN && !smooth) check_nesting(setting, blocks, option);
  if (setting.topology == RecipeConfig::STAR && !config.random_offset() && !setting.in_composite) {
    check_star(blocks, prefix, option);
  }
  return std::make_unique<GridOperator>(setting, std::move(blocks), config.random_offset(), smooth);
}

}  // namespace

std::unique_ptr<Operator> make_pixelate(const Setting& setting, const RecipeConfig& recipe) {
  const PixelateConfig& config = recipe.pixelate();
  return make_grid(setting, config, config.blocks(), "recipe.pixelate", "blocks", false);
}

std::unique_ptr<Operator> make_downsample(const Setting& setting, const RecipeConfig& recipe) {
  const DownsampleConfig& config = recipe.downsample();
  return make_grid(setting, config, config.factors(), "recipe.downsample", "factors", true);
}

}  // namespace lf
