// A node's attributes and inputs, and a file's tensors, as their operators take them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <cstring>

#include "model/extractors/onnx_operators.h"

namespace lf {
namespace {

using onnx::TensorProto;

at::Tensor of_raw(const TensorProto& proto, at::ScalarType type) {
  const std::vector<int64_t> shape(proto.dims().begin(), proto.dims().end());
  at::Tensor made = at::empty(shape, type);
  LF_CHECK(made.nbytes() == proto.raw_data().size(), "checkpoint/onnx_file.h checks tensors");
  std::memcpy(made.mutable_data_ptr(), proto.raw_data().data(), made.nbytes());
  return made;
}

template <typename Field>
at::Tensor of_field(const TensorProto& proto, const Field& values, at::ScalarType type) {
  using Value = typename Field::value_type;
  const std::vector<int64_t> shape(proto.dims().begin(), proto.dims().end());
  at::Tensor made = at::empty(shape, type);
  LF_CHECK(made.numel() == values.size(), "checkpoint/onnx_file.h checks tensors");
  std::memcpy(made.mutable_data_ptr(), values.data(), sizeof(Value) * values.size());
  return made;
}

}  // namespace

at::Tensor tensor_of(const TensorProto& proto) {
  const bool raw = proto.has_raw_data();
  switch (proto.data_type()) {
    case TensorProto::FLOAT:
      return raw ? of_raw(proto, at::kFloat) : of_field(proto, proto.float_data(), at::kFloat);
    case TensorProto::DOUBLE:
      return (raw ? of_raw(proto, at::kDouble) : of_field(proto, proto.double_data(), at::kDouble))
          .to(at::kFloat);
    case TensorProto::FLOAT16:  // as bits in integers, unless raw
      return (raw ? of_raw(proto, at::kHalf)
                  : of_field(proto, proto.int32_data(), at::kInt).to(at::kShort).view(at::kHalf))
          .to(at::kFloat);
    case TensorProto::INT32:
      return (raw ? of_raw(proto, at::kInt) : of_field(proto, proto.int32_data(), at::kInt))
          .to(at::kLong);
    case TensorProto::BOOL:
      return (raw ? of_raw(proto, at::kByte) : of_field(proto, proto.int32_data(), at::kInt))
          .to(at::kLong);
    case TensorProto::INT64:
      return raw ? of_raw(proto, at::kLong) : of_field(proto, proto.int64_data(), at::kLong);
    default:
      LF_CHECK(false, "checkpoint/onnx_file.h checks types");
      return {};
  }
}

const onnx::AttributeProto* OnnxNode::find(const char* attribute) const {
  for (const onnx::AttributeProto& one : proto_.attribute()) {
    if (one.name() == attribute) return &one;
  }
  return nullptr;
}

int64_t OnnxNode::integer(const char* attribute, int64_t fallback) const {
  const onnx::AttributeProto* found = find(attribute);
  return found == nullptr ? fallback : found->i();
}

double OnnxNode::number(const char* attribute, double fallback) const {
  const onnx::AttributeProto* found = find(attribute);
  return found == nullptr ? fallback : static_cast<double>(found->f());
}

std::string OnnxNode::text(const char* attribute, const char* fallback) const {
  const onnx::AttributeProto* found = find(attribute);
  return found == nullptr ? fallback : found->s();
}

std::vector<int64_t> OnnxNode::integers(const char* attribute,
                                        std::vector<int64_t> fallback) const {
  const onnx::AttributeProto* found = find(attribute);
  if (found == nullptr) return fallback;
  return {found->ints().begin(), found->ints().end()};
}

std::vector<double> OnnxNode::numbers(const char* attribute) const {
  const onnx::AttributeProto* found = find(attribute);
  if (found == nullptr) return {};
  return {found->floats().begin(), found->floats().end()};
}

at::Tensor OnnxNode::tensor(const char* attribute) const {
  const onnx::AttributeProto* found = find(attribute);
  return found == nullptr || !found->has_t() ? at::Tensor() : tensor_of(found->t());
}

void OnnxNode::bound(at::IntArrayRef shape) const {
  int64_t elements = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || (extent > 0 && elements > kMostOnnxElements / extent)) {
      refuse("makes a tensor of ", at::IntArrayRef(shape), ", expected at most ",
             human_count(static_cast<uint64_t>(kMostOnnxElements)), " elements");
    }
    elements *= extent;
  }
}

std::vector<int64_t> OnnxNode::list(const at::Tensor& input) const {
  if (!input.defined() || input.scalar_type() != at::kLong || input.dim() > 1) {
    refuse("takes a list of integers, and is given another tensor");
  }
  const at::Tensor flat = input.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

std::vector<int64_t> OnnxNode::list(const std::vector<at::Tensor>& in, size_t number,
                                    const char* attribute,
                                    const std::vector<int64_t>& fallback) const {
  if (in.size() > number && in[number].defined()) return list(in[number]);
  return integers(attribute, fallback);
}

double OnnxNode::scalar(const at::Tensor& input) const {
  if (input.numel() != 1) refuse("takes a scalar, and is given ", input.numel(), " values");
  return input.to(at::kCPU, at::kDouble).item<double>();
}

int64_t OnnxNode::axis(int64_t axis, int64_t dimensions) const {
  if (axis < -dimensions || axis >= dimensions) {
    refuse("has the axis ", axis, " of ", dimensions, " dimensions");
  }
  return axis < 0 ? axis + dimensions : axis;
}

void OnnxNode::require_images(const at::Tensor& input) const {
  if (input.dim() == 4 && input.numel() > 0 && input.scalar_type() == at::kFloat) return;
  refuse("is given a tensor of ", input.dim(), " dimensions, expected images [N, C, H, W]");
}

}  // namespace lf
