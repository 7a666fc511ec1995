// Operators over tensors of any shape, and over shapes; onnx_maps.cc has those over maps.
#include "model/extractors/onnx_operators.h"

#include <ATen/ExpandUtils.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/instance_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace lf {
namespace {

using Made = std::vector<at::Tensor>;
using onnx::TensorProto;

bool is_shape(const at::Tensor& x) { return x.scalar_type() == at::kLong; }

Made batch_norm(const OnnxNode& node, const OnnxInputs& in) {
  if (node.integer("training_mode", 0) != 0 || node.integer("spatial", 1) != 1) {
    node.refuse("is for training; export the network for inference");
  }
  return {at::batch_norm(in[0], in[1], in[2], in[3], in[4], /*training=*/false, 0,
                         node.number("epsilon", 1e-5), /*cudnn_enabled=*/false)};
}

Made instance_norm(const OnnxNode& node, const OnnxInputs& in) {
  return {at::instance_norm(in[0], in[1], in[2], {}, {}, /*use_input_stats=*/true, 0,
                            node.number("epsilon", 1e-5), /*cudnn_enabled=*/false)};
}

Made layer_norm(const OnnxNode& node, const OnnxInputs& in) {
  const int64_t axis = node.axis(node.integer("axis", -1), in[0].dim());
  return {at::layer_norm(in[0], in[0].sizes().slice(static_cast<size_t>(axis)), in[1],
                         in.size() > 2 ? in[2] : at::Tensor(), node.number("epsilon", 1e-5))};
}

Made gemm(const OnnxNode& node, const OnnxInputs& in) {
  const at::Tensor a = node.integer("transA", 0) != 0 ? in[0].t() : in[0];
  const at::Tensor b = node.integer("transB", 0) != 0 ? in[1].t() : in[1];
  if (a.dim() != 2 || b.dim() != 2) node.refuse("multiplies other tensors than matrices");
  node.bound({a.size(0), b.size(1)});
  at::Tensor made = at::matmul(a, b);
  if (const double alpha = node.number("alpha", 1); alpha != 1) made = made * alpha;
  if (in.size() < 3 || !in[2].defined()) return {made};
  node.bound(at::infer_size(made.sizes(), in[2].sizes()));
  return {made + in[2] * node.number("beta", 1)};
}

Made matmul(const OnnxNode& node, const OnnxInputs& in) {
  const at::Tensor &a = in[0], &b = in[1];
  if (a.dim() >= 2 && b.dim() >= 2) {
    std::vector<int64_t> shape =
        at::infer_size(a.sizes().slice(0, static_cast<size_t>(a.dim()) - 2),
                       b.sizes().slice(0, static_cast<size_t>(b.dim()) - 2));
    node.bound(shape);
    shape.insert(shape.end(), {a.size(-2), b.size(-1)});
    node.bound(shape);
  }
  return {at::matmul(a, b)};
}

enum class Binary { kAdd, kSub, kMul, kDiv, kPow, kMax, kMin };

template <Binary operation>
Made binary(const OnnxNode& node, const OnnxInputs& in) {
  at::Tensor made = in[0];
  for (size_t i = 1; i < in.size(); ++i) {
    const at::Tensor& other = in[i];
    if (!other.defined() || is_shape(made) != is_shape(other)) {
      node.refuse("is given integers and floats, expected one type");
    }
    node.bound(at::infer_size(made.sizes(), other.sizes()));
    switch (operation) {
      case Binary::kAdd:
        made = made + other;
        break;
      case Binary::kSub:
        made = made - other;
        break;
      case Binary::kMul:
        made = made * other;
        break;
      case Binary::kDiv:
        if (is_shape(made) && other.eq(0).any().item<bool>()) node.refuse("divides by zero");
        made = is_shape(made) ? made.div(other, "trunc") : made / other;
        break;
      case Binary::kPow:
        made = at::pow(made, other);
        break;
      case Binary::kMax:
        made = at::maximum(made, other);
        break;
      case Binary::kMin:
        made = at::minimum(made, other);
        break;
    }
  }
  return {made};
}

template <at::Tensor function(const at::Tensor&)>
Made unary(const OnnxNode&, const OnnxInputs& in) {
  return {function(in[0])};
}

at::Tensor same(const at::Tensor& x) { return x; }
at::Tensor negated(const at::Tensor& x) { return -x; }
at::Tensor reciprocal(const at::Tensor& x) { return 1 / x; }
at::Tensor softplus(const at::Tensor& x) { return at::softplus(x); }
at::Tensor exponential(const at::Tensor& x) { return x.exp(); }
at::Tensor logarithm(const at::Tensor& x) { return x.log(); }
at::Tensor square_root(const at::Tensor& x) { return x.sqrt(); }
at::Tensor absolute(const at::Tensor& x) { return x.abs(); }
at::Tensor rounded_down(const at::Tensor& x) { return x.floor(); }

Made leaky_relu(const OnnxNode& node, const OnnxInputs& in) {
  return {at::leaky_relu(in[0], node.number("alpha", 0.01))};
}

Made parametric_relu(const OnnxNode& node, const OnnxInputs& in) {
  node.bound(at::infer_size(in[0].sizes(), in[1].sizes()));
  return {in[0].clamp_min(0) + in[1] * in[0].clamp_max(0)};
}

Made exponential_unit(const OnnxNode& node, const OnnxInputs& in) {
  return {at::elu(in[0], node.number("alpha", 1))};
}

Made hard_sigmoid(const OnnxNode& node, const OnnxInputs& in) {
  return {(in[0] * node.number("alpha", 0.2) + node.number("beta", 0.5)).clamp(0, 1)};
}

Made gelu(const OnnxNode& node, const OnnxInputs& in) {
  const std::string how = node.text("approximate", "none");
  if (how != "none" && how != "tanh") node.refuse("approximates by ", printable(how));
  return {at::gelu(in[0], how)};
}

Made clip(const OnnxNode& node, const OnnxInputs& in) {
  const auto limit = [&](size_t number, const char* attribute, double fallback) {
    if (in.size() > number && in[number].defined()) return node.scalar(in[number]);
    return node.number(attribute, fallback);
  };
  constexpr double kLargest = std::numeric_limits<float>::max();
  return {in[0].clamp(limit(1, "min", -kLargest), limit(2, "max", kLargest))};
}

// A softmax over all axes from this one on, as opsets before 13 have it, or over this one.
template <bool logarithmic>
Made softmax(const OnnxNode& node, const OnnxInputs& in) {
  const bool flattens = node.opset() < 13;
  const at::Tensor& x = in[0];
  const int64_t axis = node.axis(node.integer("axis", flattens ? 1 : -1), x.dim());
  const at::Tensor rows = flattens ? x.flatten(axis) : x;
  const at::Tensor made = logarithmic ? at::log_softmax(rows, axis) : at::softmax(rows, axis);
  return {made.view_as(x)};
}

Made concatenate(const OnnxNode& node, const OnnxInputs& in) {
  const int64_t axis = node.axis(node.integer("axis", 1), in[0].dim());
  std::vector<int64_t> shape = in[0].sizes().vec();
  for (const at::Tensor& x : in) {
    if (!x.defined() || x.dim() != in[0].dim() || is_shape(x) != is_shape(in[0])) {
      node.refuse("joins tensors that differ in dimensions or type");
    }
    if (&x != in.data()) shape[static_cast<size_t>(axis)] += x.size(axis);
  }
  node.bound(shape);
  return {at::cat(in, axis)};
}

Made reshape(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> shape = node.list(in, 1, "shape", {});
  for (size_t i = 0; i < shape.size() && node.integer("allowzero", 0) == 0; ++i) {
    if (shape[i] != 0) continue;
    if (static_cast<int64_t>(i) >= in[0].dim()) node.refuse("copies an extent that is not there");
    shape[i] = in[0].size(static_cast<int64_t>(i));
  }
  if (shape.size() > kMostOnnxDimensions) node.refuse("makes ", shape.size(), " dimensions");
  return {in[0].reshape(shape)};
}

Made flatten(const OnnxNode& node, const OnnxInputs& in) {
  int64_t axis = node.integer("axis", 1);
  if (axis != in[0].dim()) axis = node.axis(axis, in[0].dim());
  int64_t rows = 1;
  for (int64_t i = 0; i < axis; ++i) rows *= in[0].size(i);
  return {in[0].reshape({rows, rows == 0 ? 0 : in[0].numel() / rows})};
}

Made transpose(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> reversed(static_cast<size_t>(in[0].dim()));
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  return {in[0].permute(node.integers("perm", reversed)).contiguous()};
}

Made squeeze(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> axes = node.list(in, 1, "axes", {});
  if (axes.empty()) return {in[0].squeeze()};
  for (int64_t& axis : axes) {
    axis = node.axis(axis, in[0].dim());
    if (in[0].size(axis) != 1) node.refuse("drops an axis of ", in[0].size(axis), ", expected 1");
  }
  return {in[0].squeeze(axes)};
}

Made unsqueeze(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> axes = node.list(in, 1, "axes", {});
  const int64_t dimensions = in[0].dim() + static_cast<int64_t>(axes.size());
  if (axes.size() > kMostOnnxDimensions) node.refuse("makes ", dimensions, " dimensions");
  for (int64_t& axis : axes) axis = node.axis(axis, dimensions);
  std::sort(axes.begin(), axes.end());
  at::Tensor made = in[0];
  for (const int64_t axis : axes) made = made.unsqueeze(axis);
  return {made};
}

Made split(const OnnxNode& node, const OnnxInputs& in) {
  const int64_t axis = node.axis(node.integer("axis", 0), in[0].dim());
  const int64_t size = in[0].size(axis);
  std::vector<int64_t> sizes = node.list(in, 1, "split", {});
  if (sizes.empty()) {
    const int64_t parts = node.integer("num_outputs", node.outputs());
    if (parts < 1 || parts > size) node.refuse("splits ", size, " into ", parts, " parts");
    const int64_t each = (size + parts - 1) / parts;
    for (int64_t at = 0; at < size; at += each) sizes.push_back(std::min(each, size - at));
  }
  for (const int64_t part : sizes) {
    if (part < 0 || part > size) node.refuse("splits ", size, " into a part of ", part);
  }
  return in[0].split_with_sizes(sizes, axis);
}

Made slice(const OnnxNode& node, const OnnxInputs& in) {
  const std::vector<int64_t> starts = node.list(in, 1, "starts", {});
  const std::vector<int64_t> ends = node.list(in, 2, "ends", {});
  std::vector<int64_t> axes(starts.size());
  std::iota(axes.begin(), axes.end(), 0);
  axes = node.list(in, 3, "axes", axes);
  const std::vector<int64_t> steps =
      node.list(in, 4, "steps", std::vector<int64_t>(starts.size(), 1));
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    node.refuse("has ", starts.size(), " starts, ", ends.size(), " ends, ", axes.size(),
                " axes and ", steps.size(), " steps");
  }
  at::Tensor made = in[0];
  for (size_t i = 0; i < starts.size(); ++i) {
    if (steps[i] < 1) node.refuse("has a step of ", steps[i], ", expected 1 or more");
    const int64_t axis = node.axis(axes[i], made.dim());
    // Ends of the smallest int64_t stand for "from the first".
    made = made.slice(axis, std::max(starts[i], -made.size(axis)),
                      std::max(ends[i], -made.size(axis)), steps[i]);
  }
  return {made};
}

Made gather(const OnnxNode& node, const OnnxInputs& in) {
  const int64_t axis = node.axis(node.integer("axis", 0), in[0].dim());
  const int64_t size = in[0].size(axis);
  if (!is_shape(in[1])) node.refuse("is given indices that are no integers");
  const at::Tensor& raw = in[1];
  if (raw.numel() > 0 && (raw.min().item<int64_t>() < -size || raw.max().item<int64_t>() >= size)) {
    node.refuse("takes an element beyond the ", size, " there are");
  }
  std::vector<int64_t> shape = in[0].sizes().vec();
  shape.erase(shape.begin() + axis);
  shape.insert(shape.begin() + axis, raw.sizes().begin(), raw.sizes().end());
  node.bound(shape);
  const at::Tensor indices = raw.remainder(size).flatten().to(in[0].device());
  return {in[0].index_select(axis, indices).reshape(shape)};
}

Made shape(const OnnxNode& node, const OnnxInputs& in) {
  const int64_t last = in[0].dim();
  const auto bounded = [&](int64_t at) {
    return std::clamp(at < 0 ? at + last : at, int64_t{0}, last);
  };
  const int64_t from = bounded(node.integer("start", 0));
  const int64_t to = std::max(from, bounded(node.integer("end", last)));
  const at::IntArrayRef part =
      in[0].sizes().slice(static_cast<size_t>(from), static_cast<size_t>(to - from));
  return {at::tensor(part, at::kLong)};
}

Made constant(const OnnxNode& node, const OnnxInputs&) {
  if (const at::Tensor value = node.tensor("value"); value.defined()) return {value};
  if (node.has("value_float")) return {at::full({}, node.number("value_float", 0), at::kFloat)};
  if (node.has("value_int")) return {at::full({}, node.integer("value_int", 0), at::kLong)};
  if (node.has("value_ints")) return {at::tensor(node.integers("value_ints", {}), at::kLong)};
  return {at::tensor(node.numbers("value_floats"), at::kDouble).to(at::kFloat)};
}

Made constant_of_shape(const OnnxNode& node, const OnnxInputs& in) {
  const std::vector<int64_t> extents = node.list(in[0]);
  node.bound(extents);
  const at::Tensor value = node.tensor("value");
  if (!value.defined()) return {at::full(extents, 0, at::kFloat)};
  node.scalar(value);
  return {value.reshape({}).expand(extents).clone()};
}

Made cast(const OnnxNode& node, const OnnxInputs& in) {
  switch (node.integer("to", 0)) {
    case TensorProto::FLOAT:
    case TensorProto::FLOAT16:
    case TensorProto::DOUBLE:
      return {in[0].to(at::kFloat)};
    case TensorProto::INT32:
    case TensorProto::INT64:
      return {in[0].to(at::kCPU, at::kLong)};
    default:
      node.refuse("casts to ONNX's type ", node.integer("to", 0),
                  ", expected float, double, float16, int32 or int64");
  }
}

enum class Reduction { kMean, kSum, kMax, kMin };

template <Reduction reduction>
Made reduce(const OnnxNode& node, const OnnxInputs& in) {
  std::vector<int64_t> axes = node.list(in, 1, "axes", {});
  if (axes.empty() && node.integer("noop_with_empty_axes", 0) != 0) return {in[0]};
  for (int64_t& axis : axes) axis = node.axis(axis, in[0].dim());
  const bool keeps = node.integer("keepdims", 1) != 0;
  switch (reduction) {
    case Reduction::kMean:
      return {in[0].mean(axes, keeps)};
    case Reduction::kSum:
      return {in[0].sum(axes, keeps)};
    case Reduction::kMax:
      return {in[0].amax(axes, keeps)};
    case Reduction::kMin:
      return {in[0].amin(axes, keeps)};
  }
  return {};
}

constexpr size_t kMany = 4096;

constexpr std::array kOperators = {
    OnnxOperator{"Abs", unary<absolute>, 1, 1, ""},
    OnnxOperator{"Add", binary<Binary::kAdd>, 2, 2, ""},
    OnnxOperator{"BatchNormalization", batch_norm, 5, 5,
                 " epsilon momentum spatial training_mode "},
    OnnxOperator{"Cast", cast, 1, 1, " to saturate "},
    OnnxOperator{"Clip", clip, 1, 3, " min max "},
    OnnxOperator{"Concat", concatenate, 1, kMany, " axis "},
    OnnxOperator{"Constant", constant, 0, 0,
                 " value value_float value_floats value_int value_ints "},
    OnnxOperator{"ConstantOfShape", constant_of_shape, 1, 1, " value "},
    OnnxOperator{"Div", binary<Binary::kDiv>, 2, 2, ""},
    OnnxOperator{"Dropout", unary<same>, 1, 3, " ratio seed "},
    OnnxOperator{"Elu", exponential_unit, 1, 1, " alpha "},
    OnnxOperator{"Erf", unary<at::erf>, 1, 1, ""},
    OnnxOperator{"Exp", unary<exponential>, 1, 1, ""},
    OnnxOperator{"Flatten", flatten, 1, 1, " axis "},
    OnnxOperator{"Floor", unary<rounded_down>, 1, 1, ""},
    OnnxOperator{"Gather", gather, 2, 2, " axis "},
    OnnxOperator{"Gelu", gelu, 1, 1, " approximate "},
    OnnxOperator{"Gemm", gemm, 2, 3, " alpha beta transA transB "},
    OnnxOperator{"HardSigmoid", hard_sigmoid, 1, 1, " alpha beta "},
    OnnxOperator{"HardSwish", unary<at::hardswish>, 1, 1, ""},
    OnnxOperator{"Identity", unary<same>, 1, 1, ""},
    OnnxOperator{"InstanceNormalization", instance_norm, 3, 3, " epsilon "},
    OnnxOperator{"LayerNormalization", layer_norm, 2, 3, " axis epsilon stash_type "},
    OnnxOperator{"LeakyRelu", leaky_relu, 1, 1, " alpha "},
    OnnxOperator{"Log", unary<logarithm>, 1, 1, ""},
    OnnxOperator{"LogSoftmax", softmax<true>, 1, 1, " axis "},
    OnnxOperator{"MatMul", matmul, 2, 2, ""},
    OnnxOperator{"Max", binary<Binary::kMax>, 1, kMany, ""},
    OnnxOperator{"Min", binary<Binary::kMin>, 1, kMany, ""},
    OnnxOperator{"Mul", binary<Binary::kMul>, 2, 2, ""},
    OnnxOperator{"Neg", unary<negated>, 1, 1, ""},
    OnnxOperator{"PRelu", parametric_relu, 2, 2, ""},
    OnnxOperator{"Pow", binary<Binary::kPow>, 2, 2, ""},
    OnnxOperator{"Reciprocal", unary<reciprocal>, 1, 1, ""},
    OnnxOperator{"ReduceMax", reduce<Reduction::kMax>, 1, 2,
                 " axes keepdims noop_with_empty_axes "},
    OnnxOperator{"ReduceMean", reduce<Reduction::kMean>, 1, 2,
                 " axes keepdims noop_with_empty_axes "},
    OnnxOperator{"ReduceMin", reduce<Reduction::kMin>, 1, 2,
                 " axes keepdims noop_with_empty_axes "},
    OnnxOperator{"ReduceSum", reduce<Reduction::kSum>, 1, 2,
                 " axes keepdims noop_with_empty_axes "},
    OnnxOperator{"Relu", unary<at::relu>, 1, 1, ""},
    OnnxOperator{"Reshape", reshape, 1, 2, " allowzero shape "},
    OnnxOperator{"Shape", shape, 1, 1, " start end "},
    OnnxOperator{"Sigmoid", unary<at::sigmoid>, 1, 1, ""},
    OnnxOperator{"Slice", slice, 1, 5, " axes ends starts "},
    OnnxOperator{"Softmax", softmax<false>, 1, 1, " axis "},
    OnnxOperator{"Softplus", unary<softplus>, 1, 1, ""},
    OnnxOperator{"Split", split, 1, 2, " axis num_outputs split "},
    OnnxOperator{"Sqrt", unary<square_root>, 1, 1, ""},
    OnnxOperator{"Squeeze", squeeze, 1, 2, " axes "},
    OnnxOperator{"Sub", binary<Binary::kSub>, 2, 2, ""},
    OnnxOperator{"Sum", binary<Binary::kAdd>, 1, kMany, ""},
    OnnxOperator{"Tanh", unary<at::tanh>, 1, 1, ""},
    OnnxOperator{"Transpose", transpose, 1, 1, " perm "},
    OnnxOperator{"Unsqueeze", unsqueeze, 1, 2, " axes "},
};

}  // namespace

const OnnxOperator* find_onnx_operator(const std::string& name) {
  for (const std::span<const OnnxOperator> table :
       {std::span<const OnnxOperator>(kOperators), onnx_map_operators()}) {
    for (const OnnxOperator& row : table) {
      if (name == row.name) return &row;
    }
  }
  return nullptr;
}

}  // namespace lf
