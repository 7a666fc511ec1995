// Operators over maps of images [N, C, H, W]: what slides, pads and resizes.
#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reflection_pad2d.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <algorithm>
#include <array>
#include <limits>

#include "model/extractors/onnx_operators.h"

namespace lf {
namespace {

using Made = std::vector<at::Tensor>;

// What slides over a map: a pair for height and width each.
struct Window {
  std::array<int64_t, 2> kernel, stride, dilation, begin, end;

  int64_t span(size_t i) const { return dilation[i] * (kernel[i] - 1) + 1; }
  bool is_even() const { return begin == end; }
};

constexpr int64_t kLargestWindow = 1 << 20;

std::array<int64_t, 2> pair_of(const OnnxNode& node, const char* attribute, int64_t least,
                               const std::vector<int64_t>& fallback) {
  const std::vector<int64_t> values = node.integers(attribute, fallback);
  if (values.size() != 2) {
    node.refuse("has ", values.size(), " ", attribute, ", expected 2: of height and width");
  }
  for (const int64_t value : values) {
    if (value < least || value > kLargestWindow) node.refuse("has ", value, " in ", attribute);
  }
  return {values[0], values[1]};
}

Window window_of(const OnnxNode& node, const at::Tensor& x, const std::vector<int64_t>& kernel) {
  node.require_images(x);
  Window window{pair_of(node, "kernel_shape", 1, kernel),
                pair_of(node, "strides", 1, {1, 1}),
                pair_of(node, "dilations", 1, {1, 1}),
                {0, 0},
                {0, 0}};
  const std::string mode = node.text("auto_pad", "NOTSET");
  const std::vector<int64_t> pads = node.integers("pads", {0, 0, 0, 0});
  if (pads.size() != 4) node.refuse("has ", pads.size(), " pads, expected 4");
  for (size_t i = 0; i < 2; ++i) {
    if (mode == "NOTSET") {
      window.begin[i] = pads[i];
      window.end[i] = pads[i + 2];
    } else if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
      const int64_t size = x.size(static_cast<int64_t>(i) + 2);
      const int64_t made = (size + window.stride[i] - 1) / window.stride[i];
      const int64_t pad =
          std::max<int64_t>(0, (made - 1) * window.stride[i] + window.span(i) - size);
      window.begin[i] = mode == "SAME_UPPER" ? pad / 2 : pad - pad / 2;
      window.end[i] = pad - window.begin[i];
    } else if (mode != "VALID") {
      node.refuse("has the padding ", printable(mode));
    }
    for (const int64_t pad : {window.begin[i], window.end[i]}) {
      if (pad < 0 || pad > kLargestWindow) node.refuse("has a padding of ", pad);
    }
  }
  return window;
}

// Extent of the output along height (0) or width (1); with `ceil` a window may end beyond the
// padding, if it does not begin there.
int64_t slides(const OnnxNode& node, const Window& window, size_t i, int64_t size, bool ceil) {
  const int64_t room = size + window.begin[i] + window.end[i] - window.span(i);
  if (room < 0) {
    node.refuse("has a window of ", window.span(i), " over ", size, " pixels; give larger images");
  }
  int64_t made = room / window.stride[i] + 1;
  if (ceil && room % window.stride[i] != 0 && made * window.stride[i] < size + window.begin[i]) {
    ++made;
  }
  return made;
}

at::Tensor padded(const OnnxNode& node, const at::Tensor& x, const Window& window, double value) {
  constexpr std::array<int64_t, 2> kNone = {0, 0};
  if (window.begin == kNone && window.end == kNone) return x;
  const int64_t height = x.size(2) + window.begin[0] + window.end[0];
  const int64_t width = x.size(3) + window.begin[1] + window.end[1];
  node.bound({x.size(0), x.size(1), height, width});
  return at::constant_pad_nd(x, {window.begin[1], window.end[1], window.begin[0], window.end[0]},
                             value);
}

Made conv(const OnnxNode& node, const OnnxInputs& in) {
  at::Tensor x = in[0];
  const at::Tensor& weight = in[1];
  if (weight.dim() != 4) node.refuse("has weights of ", weight.dim(), " dimensions, expected 4");
  Window window = window_of(node, x, {weight.size(2), weight.size(3)});
  if (window.kernel != std::array<int64_t, 2>{weight.size(2), weight.size(3)}) {
    node.refuse("has a kernel_shape that its weights have not");
  }
  node.bound({x.size(0), weight.size(0), slides(node, window, 0, x.size(2), false),
              slides(node, window, 1, x.size(3), false)});
  const int64_t groups = node.integer("group", 1);
  if (groups < 1 || x.size(1) != groups * weight.size(1) || weight.size(0) % groups != 0) {
    node.refuse("has weights for ", weight.size(1), " channels in ", groups,
                " groups, and is given ", x.size(1));
  }
  if (!window.is_even()) {
    x = padded(node, x, window, 0);
    window.begin = {0, 0};
  }
  return {at::conv2d(x, weight, in.size() > 2 ? in[2] : at::Tensor(), window.stride, window.begin,
                     window.dilation, groups)};
}

Made conv_transpose(const OnnxNode& node, const OnnxInputs& in) {
  const at::Tensor &x = in[0], &weight = in[1];
  if (weight.dim() != 4) node.refuse("has weights of ", weight.dim(), " dimensions, expected 4");
  if (node.text("auto_pad", "NOTSET") != "NOTSET" || node.has("output_shape")) {
    node.refuse("computes its padding from its output, which is not supported");
  }
  const Window window = window_of(node, x, {weight.size(2), weight.size(3)});
  const std::array<int64_t, 2> more = pair_of(node, "output_padding", 0, {0, 0});
  const int64_t groups = node.integer("group", 1);
  if (groups < 1 || x.size(1) != weight.size(0) || x.size(1) % groups != 0) {
    node.refuse("has weights for ", weight.size(0), " channels, and is given ", x.size(1));
  }
  std::vector<int64_t> shape = {x.size(0), weight.size(1) * groups};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t size = x.size(static_cast<int64_t>(i) + 2);
    shape.push_back((size - 1) * window.stride[i] + window.span(i) + more[i]);
  }
  node.bound(shape);
  at::Tensor made = at::conv_transpose2d(x, weight, in.size() > 2 ? in[2] : at::Tensor(),
                                         window.stride, {0, 0}, more, groups, window.dilation);
  for (size_t i = 0; i < 2; ++i) {
    made = made.slice(static_cast<int64_t>(i) + 2, window.begin[i],
                      made.size(static_cast<int64_t>(i) + 2) - window.end[i]);
  }
  return {made};
}

// Pads a map such that windows tile it, those of `ceil` included.
Window tiled(const OnnxNode& node, const at::Tensor& x, Window window,
             std::vector<int64_t>* shape) {
  const bool ceil = node.integer("ceil_mode", 0) != 0;
  *shape = {x.size(0), x.size(1)};
  for (size_t i = 0; i < 2; ++i) {
    const int64_t size = x.size(static_cast<int64_t>(i) + 2);
    const int64_t made = slides(node, window, i, size, ceil);
    shape->push_back(made);
    window.end[i] = (made - 1) * window.stride[i] + window.span(i) - size - window.begin[i];
  }
  node.bound(*shape);
  return window;
}

Made max_pool(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> shape;
  const Window window = tiled(node, in[0], window_of(node, in[0], {}), &shape);
  const at::Tensor x = padded(node, in[0], window, -std::numeric_limits<double>::infinity());
  return {at::max_pool2d(x, window.kernel, window.stride, {0, 0}, window.dilation)};
}

Made average_pool(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> shape;
  const Window given = window_of(node, in[0], {});
  if (given.dilation != std::array<int64_t, 2>{1, 1}) node.refuse("has dilations");
  const Window window = tiled(node, in[0], given, &shape);
  const at::Tensor mean =
      at::avg_pool2d(padded(node, in[0], window, 0), window.kernel, window.stride);
  const std::array<int64_t, 2> none = {0, 0};
  if (window.begin == none && std::max(window.end[0], window.end[1]) <= 0) return {mean};
  // The part of each window that counts: the map, with its padding if the node says so.
  at::Tensor counted = at::ones({1, 1, in[0].size(2), in[0].size(3)}, in[0].options());
  Window outside = window;
  if (node.integer("count_include_pad", 0) != 0) {
    counted = padded(node, counted, given, 1);
    outside.begin = none;
    outside.end = {window.end[0] - given.end[0], window.end[1] - given.end[1]};
  }
  counted = padded(node, counted, outside, 0);
  return {mean / at::avg_pool2d(counted, window.kernel, window.stride)};
}

template <bool largest>
Made global_pool(const OnnxNode& node, const OnnxInputs& in) {
  node.require_images(in[0]);
  return {largest ? in[0].amax({2, 3}, /*keepdim=*/true) : in[0].mean({2, 3}, /*keepdim=*/true)};
}

// Over channels nearby, as AlexNet and GoogLeNet have it.
Made local_response_norm(const OnnxNode& node, const OnnxInputs& in) {
  node.require_images(in[0]);
  const int64_t size = node.integer("size", 1);
  if (size < 1 || size > kLargestWindow) node.refuse("has the size ", size);
  const at::Tensor& x = in[0];
  const int64_t before = (size - 1) / 2, channels = x.size(1);
  node.bound({x.size(0), channels + size, x.size(2), x.size(3)});
  const at::Tensor squares =
      at::constant_pad_nd(x * x, {0, 0, 0, 0, before + 1, size - 1 - before}, 0).cumsum(1);
  const at::Tensor sum = squares.slice(1, size, size + channels) - squares.slice(1, 0, channels);
  const double part = node.number("alpha", 1e-4) / static_cast<double>(size);
  return {x * at::pow(sum * part + node.number("bias", 1), -node.number("beta", 0.75))};
}

Made pad(const OnnxNode& node, const OnnxInputs& in) {
  const at::Tensor& x = in[0];
  const std::vector<int64_t> pads = node.list(in, 1, "pads", {});
  const auto dimensions = static_cast<size_t>(x.dim());
  if (pads.size() != 2 * dimensions) {
    node.refuse("has ", pads.size(), " pads, expected ", 2 * dimensions);
  }
  std::vector<int64_t> made = x.sizes().vec(), backwards;  // torch's order: last axis first
  for (size_t i = 0; i < dimensions; ++i) {
    const auto [least, most] = std::minmax(pads[i], pads[i + dimensions]);
    if (least < -kLargestWindow || most > kLargestWindow) {
      node.refuse("has a padding of ", pads[i], " and ", pads[i + dimensions]);
    }
    made[i] += pads[i] + pads[i + dimensions];
    const size_t last = dimensions - 1 - i;
    backwards.insert(backwards.end(), {pads[last], pads[last + dimensions]});
  }
  node.bound(made);
  const std::string mode = node.text("mode", "constant");
  if (mode == "constant") {
    const double value =
        in.size() > 2 && in[2].defined() ? node.scalar(in[2]) : node.number("value", 0);
    return {at::constant_pad_nd(x, backwards, value)};
  }
  node.require_images(x);
  const std::vector<int64_t> of_map(backwards.begin(), backwards.begin() + 4);
  const bool only_map =
      std::all_of(backwards.begin() + 4, backwards.end(), [](int64_t pad) { return pad == 0; });
  if (only_map && mode == "reflect") return {at::reflection_pad2d(x, of_map)};
  if (only_map && mode == "edge") return {at::replication_pad2d(x, of_map)};
  node.refuse("pads by ", printable(mode), only_map ? "" : " over channels",
              ", expected constant, reflect or edge of height and width");
}

// Nearest by whole pixels' left upper corners, or bilinear.
Made resize(const OnnxNode& node, const OnnxInputs& in) {
  const at::Tensor& x = in[0];
  node.require_images(x);
  const bool is_upsample = in.size() <= 2;  // Upsample, and Resize before opset 11: x, scales
  const size_t at = is_upsample ? 1 : 2;
  std::vector<int64_t> size;
  if (in.size() > 3 && in[3].defined() && in[3].numel() > 0) {
    size = node.list(in[3]);
  } else {
    std::vector<double> scales = node.numbers("scales");
    if (in.size() > at && in[at].defined()) {
      const at::Tensor given = in[at].to(at::kCPU, at::kDouble).flatten().contiguous();
      scales.assign(given.const_data_ptr<double>(), given.const_data_ptr<double>() + given.numel());
    }
    for (size_t i = 0; i < scales.size() && i < 4; ++i) {
      const double made = static_cast<double>(x.size(static_cast<int64_t>(i))) * scales[i];
      if (!(made >= 1 && made <= static_cast<double>(kLargestWindow))) {
        node.refuse("has a scale of ", scales[i]);
      }
      size.push_back(static_cast<int64_t>(made));
    }
  }
  if (size.size() != 4 || size[0] != x.size(0) || size[1] != x.size(1)) {
    node.refuse("resizes other axes than height and width");
  }
  node.bound(size);
  const std::string mode = node.text("mode", "nearest");
  const std::string where =
      node.text("coordinate_transformation_mode", is_upsample ? "asymmetric" : "half_pixel");
  if (mode == "nearest" && where == "asymmetric" &&
      (is_upsample || node.text("nearest_mode", "round_prefer_floor") == "floor")) {
    return {at::upsample_nearest2d(x, {size[2], size[3]})};
  }
  const bool corners = where == "align_corners";
  if (mode == "linear" && (corners || where == "half_pixel" || where == "pytorch_half_pixel")) {
    return {at::upsample_bilinear2d(x, {size[2], size[3]}, corners)};
  }
  node.refuse("resizes by ", printable(mode), " with ", printable(where),
              " coordinates, expected nearest (asymmetric, floor) or linear (half_pixel or "
              "align_corners)");
}

#define LF_WINDOW " auto_pad dilations kernel_shape pads strides "
constexpr std::array kMapOperators = {
    OnnxOperator{"AveragePool", average_pool, 1, 1, LF_WINDOW "ceil_mode count_include_pad "},
    OnnxOperator{"Conv", conv, 2, 3, LF_WINDOW "group "},
    OnnxOperator{"ConvTranspose", conv_transpose, 2, 3,
                 LF_WINDOW "group output_padding output_shape "},
    OnnxOperator{"GlobalAveragePool", global_pool<false>, 1, 1, ""},
    OnnxOperator{"GlobalMaxPool", global_pool<true>, 1, 1, ""},
    OnnxOperator{"LRN", local_response_norm, 1, 1, " alpha beta bias size "},
    OnnxOperator{"MaxPool", max_pool, 1, 1, LF_WINDOW "ceil_mode storage_order "},
    OnnxOperator{"Pad", pad, 1, 3, " mode pads value "},
    OnnxOperator{
        "Resize", resize, 1, 4,
        " coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
        "mode nearest_mode "},
    OnnxOperator{"Upsample", resize, 1, 2, " mode scales "},
};
#undef LF_WINDOW

}  // namespace

std::span<const OnnxOperator> onnx_map_operators() { return kMapOperators; }

}  // namespace lf
