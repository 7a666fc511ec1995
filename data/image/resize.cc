// The two passes of the resize, and fitting.
#include "data/image/resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace lf {
namespace {

constexpr int kPrecision = 22;  // bits of a weight's fraction; a sum of 8 + 22 bits fits int32_t

// A filter at a reduction of 1: weight(x) for |x| < support.
struct Kernel {
  double support;
  double (*weight)(double x);
};

double triangle(double x) { return std::max(1.0 - std::max(x, -x), 0.0); }

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::max(x, -x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

// The last bit of a libm's sine is lost when the weight is rounded to 22.
double sinc(double x) {
  return x == 0 ? 1.0 : std::sin(x * std::numbers::pi) / (x * std::numbers::pi);
}

double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

const Kernel& kernel_of(SourceConfig::Filter filter) {
  static constexpr std::array<Kernel, 4> kKernels = {
      Kernel{1.0, triangle}, {0.5, box}, {2.0, cubic}, {3.0, lanczos}};
  static_assert(SourceConfig::LANCZOS + 1 == kKernels.size());
  LF_CHECK(static_cast<size_t>(filter) < kKernels.size());
  return kKernels[static_cast<size_t>(filter)];
}

// Output position i is the sum of count[i] inputs from first[i] on, times row i of `weights`, which
// zeros pad to `taps`.
struct Filter {
  int taps = 0;
  std::vector<int> first, count;
  std::vector<int32_t> weights;  // [output, taps]
};

int32_t fixed_point(double weight) {
  return static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kPrecision));
}

Filter make_filter(const Kernel& kernel, int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double width = std::max(scale, 1.0);  // of the kernel's unit, in input pixels
  const double support = kernel.support * width;
  Filter filter;
  filter.taps = 2 * static_cast<int>(support + 1) + 1;
  filter.weights.assign(static_cast<size_t>(out) * static_cast<size_t>(filter.taps), 0);
  std::vector<double> real(static_cast<size_t>(filter.taps));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5), in);
    double sum = 0;
    for (int x = first; x < end; ++x) {
      const double weight = kernel.weight((x - centre + 0.5) * (1.0 / width));
      real[static_cast<size_t>(x - first)] = weight;
      sum += weight;
    }
    for (int x = first; x < end; ++x) {
      const double weight = sum != 0 ? real[static_cast<size_t>(x - first)] / sum : 0;
      filter.weights[static_cast<size_t>(i) * static_cast<size_t>(filter.taps) +
                     static_cast<size_t>(x - first)] = fixed_point(weight);
    }
    filter.first.push_back(first);
    filter.count.push_back(end - first);
  }
  return filter;
}

uint8_t round_to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

constexpr int32_t kRounding = 1 << (kPrecision - 1);  // 0.5, added before the shift

template <int kChannels>
void resize_row(const uint8_t* in, const Filter& filter, int out_width, uint8_t* out) {
  for (int x = 0; x < out_width; ++x) {
    const int32_t* weight =
        filter.weights.data() + static_cast<size_t>(x) * static_cast<size_t>(filter.taps);
    const uint8_t* from =
        in + static_cast<ptrdiff_t>(filter.first[static_cast<size_t>(x)]) * kChannels;
    int32_t sum[kChannels];
    std::fill_n(sum, kChannels, kRounding);
    for (int k = 0; k < filter.count[static_cast<size_t>(x)]; ++k) {
      for (int c = 0; c < kChannels; ++c) sum[c] += from[k * kChannels + c] * weight[k];
    }
    for (int c = 0; c < kChannels; ++c) out[x * kChannels + c] = round_to_byte(sum[c]);
  }
}

// Rows of `box` made `out_width` wide: [box.height, out_width, C].
Image resize_columns(const Image& image, const Box& box, int out_width, const Kernel& kernel) {
  Image out{box.height, out_width, image.channels, {}};
  const size_t c = static_cast<size_t>(image.channels);
  const size_t out_row = static_cast<size_t>(out_width) * c;
  out.pixels.resize(static_cast<size_t>(box.height) * out_row);
  const Filter filter = make_filter(kernel, box.width, out_width);
  for (int y = 0; y < box.height; ++y) {
    const uint8_t* in =
        image.pixels.data() + (static_cast<size_t>(box.top + y) * static_cast<size_t>(image.width) +
                               static_cast<size_t>(box.left)) *
                                  c;
    uint8_t* to = out.pixels.data() + static_cast<size_t>(y) * out_row;
    if (box.width == out_width) {
      std::copy_n(in, out_row, to);
    } else if (image.channels == 1) {
      resize_row<1>(in, filter, out_width, to);
    } else {
      resize_row<3>(in, filter, out_width, to);
    }
  }
  return out;
}

Image resize_rows(const Image& image, int out_height, const Kernel& kernel) {
  const size_t row = static_cast<size_t>(image.width) * static_cast<size_t>(image.channels);
  Image out{out_height, image.width, image.channels, {}};
  out.pixels.resize(static_cast<size_t>(out_height) * row);
  const Filter filter = make_filter(kernel, image.height, out_height);
  std::vector<int32_t> sums(row);
  for (int y = 0; y < out_height; ++y) {
    std::fill(sums.begin(), sums.end(), kRounding);
    const size_t first = static_cast<size_t>(filter.first[static_cast<size_t>(y)]);
    for (int k = 0; k < filter.count[static_cast<size_t>(y)]; ++k) {
      const int32_t weight =
          filter.weights[static_cast<size_t>(y) * static_cast<size_t>(filter.taps) +
                         static_cast<size_t>(k)];
      const uint8_t* in = image.pixels.data() + (first + static_cast<size_t>(k)) * row;
      for (size_t i = 0; i < row; ++i) sums[i] += in[i] * weight;
    }
    uint8_t* to = out.pixels.data() + static_cast<size_t>(y) * row;
    for (size_t i = 0; i < row; ++i) to[i] = round_to_byte(sums[i]);
  }
  return out;
}

}  // namespace

Image resize(const Image& image, const Box& box, int height, int width,
             SourceConfig::Filter filter) {
  LF_CHECK(height > 0 && width > 0 && box.width > 0 && box.height > 0 && box.left >= 0 &&
           box.top >= 0 && box.left + box.width <= image.width &&
           box.top + box.height <= image.height);
  const Kernel& kernel = kernel_of(filter);
  Image narrow = resize_columns(image, box, width, kernel);
  return height == box.height ? std::move(narrow) : resize_rows(narrow, height, kernel);
}

Image adm_square(Image image, int side) {
  const auto resized = [&](int height, int width, SourceConfig::Filter filter) {
    return resize(image, {0, 0, image.width, image.height}, height, width, filter);
  };
  while (std::min(image.height, image.width) >= 2 * side) {
    image = resized(image.height / 2, image.width / 2, SourceConfig::BOX);
  }
  // Halves to even, as Python rounds.
  const double scale = static_cast<double>(side) / std::min(image.height, image.width);
  image = resized(static_cast<int>(std::nearbyint(image.height * scale)),
                  static_cast<int>(std::nearbyint(image.width * scale)), SourceConfig::BICUBIC);
  const Box centre{(image.width - side) / 2, (image.height - side) / 2, side, side};
  return resize(image, centre, side, side);
}

Box centred_box(const Image& image, int height, int width) {
  Box box{0, 0, image.width, image.height};
  // Compared as image.width / image.height against width / height, without division.
  const int64_t wide = int64_t{image.width} * height, tall = int64_t{image.height} * width;
  if (wide > tall) {
    box.width = static_cast<int>(std::max<int64_t>((tall + height / 2) / height, 1));
  } else if (tall > wide) {
    box.height = static_cast<int>(std::max<int64_t>((wide + width / 2) / width, 1));
  }
  box.left = (image.width - box.width) / 2;
  box.top = (image.height - box.height) / 2;
  return box;
}

Fit::Fit(const SourceConfig& config)
    : shape_{1, config.size(), config.width() != 0 ? config.width() : config.size(),
             config.channels()},
      filter_(config.filter()),
      has_crop_(config.crop().width() != 0 || config.crop().height() != 0 ||
                config.crop().left() != 0 || config.crop().top() != 0),
      crop_{config.crop().left(), config.crop().top(), config.crop().width(),
            config.crop().height()} {
  if (shape_.height == 0 && shape_.width != 0) {
    fail(Code::kUsage, "source.width is ", shape_.width,
         " but source.size (the height) is 0; set both");
  }
  if (shape_.channels == 2) {
    fail(Code::kUsage, "source.channels is 2, expected 0, 1 (grey) or 3 (RGB)");
  }
  if (filter_ == SourceConfig::ADM && shape_.height != shape_.width) {
    fail(Code::kUsage, "source.filter=ADM makes squares, and source.width is ", shape_.width,
         ", expected ", shape_.height, " (source.size) or 0");
  }
  if (has_crop_ && (crop_.width < 1 || crop_.height < 1)) {
    fail(Code::kUsage, "source.crop has no width or height; set source.crop.width and .height");
  }
}

Image Fit::operator()(Image image, const std::string& name) const {
  if (shape_.channels != 0) image = with_channels(std::move(image), shape_.channels);
  Box box = crop_;
  if (!has_crop_) {
    box = has_size() ? centred_box(image, shape_.height, shape_.width)
                     : Box{0, 0, image.width, image.height};
  } else if (box.left + box.width > image.width || box.top + box.height > image.height) {
    fail(Code::kData, name, " has ", image.width, "x", image.height,
         " pixels, too few for source.crop (left ", box.left, ", top ", box.top, ", ", box.width,
         "x", box.height, ")");
  }
  if (filter_ == SourceConfig::ADM && has_size()) {
    if (has_crop_) image = resize(image, box, box.height, box.width);
    return adm_square(std::move(image), shape_.height);
  }
  const int height = has_size() ? shape_.height : box.height;
  const int width = has_size() ? shape_.width : box.width;
  if (box.width == image.width && box.height == image.height && width == image.width &&
      height == image.height) {
    return image;
  }
  return resize(image, box, height, width, filter_);
}

}  // namespace lf
