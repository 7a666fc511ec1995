// The operators of ONNX that networks of images are made of, over tensors: float32, and int64 on
// the CPU for shapes. Values are bounded before they are made. Which operators there are is in the
// tables of onnx_operators.cc and onnx_maps.cc; onnx.h runs graphs of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "onnx.pb.h"

namespace lf {

// A tensor of a file that was checked: floats of all kinds as float32, integers as int64.
at::Tensor tensor_of(const onnx::TensorProto& proto);

// The most elements of a value: 1 GiB of floats.
inline constexpr int64_t kMostOnnxElements = int64_t{1} << 28;
inline constexpr size_t kMostOnnxDimensions = 8;

// A node as its operator sees it. Attributes that are missing have the fallback.
class OnnxNode {
 public:
  // `place` is for messages: "net.onnx: node 3 (Conv)".
  OnnxNode(const onnx::NodeProto& proto, std::string place, int64_t opset)
      : proto_(proto), place_(std::move(place)), opset_(opset) {}

  int64_t opset() const { return opset_; }
  bool has(const char* attribute) const { return find(attribute) != nullptr; }
  int64_t integer(const char* attribute, int64_t fallback) const;
  double number(const char* attribute, double fallback) const;
  std::string text(const char* attribute, const char* fallback) const;
  std::vector<int64_t> integers(const char* attribute, std::vector<int64_t> fallback) const;
  std::vector<double> numbers(const char* attribute) const;
  at::Tensor tensor(const char* attribute) const;  // undefined: there is none

  // Code::kCheckpoint: "net.onnx: node 3 (Conv) ...".
  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kCheckpoint, place_, " ", parts...);
  }
  // Refuses a value of more than kMostOnnxElements, or of a negative extent.
  void bound(at::IntArrayRef shape) const;

  int64_t outputs() const { return proto_.output_size(); }
  // The integers of an input; or of an attribute, as older opsets have it.
  std::vector<int64_t> list(const at::Tensor& input) const;
  std::vector<int64_t> list(const std::vector<at::Tensor>& in, size_t number, const char* attribute,
                            const std::vector<int64_t>& fallback) const;
  double scalar(const at::Tensor& input) const;
  // From 0 on; refuses one that the dimensions do not have.
  int64_t axis(int64_t axis, int64_t dimensions) const;
  // Refuses what is not [N, C, H, W], floats and not empty.
  void require_images(const at::Tensor& input) const;

 private:
  const onnx::AttributeProto* find(const char* attribute) const;

  const onnx::NodeProto& proto_;
  std::string place_;
  int64_t opset_;
};

// Inputs in the node's order; undefined: not given. Input 0 is given, if there may be one.
using OnnxInputs = std::vector<at::Tensor>;

struct OnnxOperator {
  const char* name;
  // In the node's order. A node may name more outputs, if nobody uses them.
  std::vector<at::Tensor> (*run)(const OnnxNode& node, const OnnxInputs& in);
  size_t fewest, most;     // inputs
  const char* attributes;  // those it knows, between spaces
};

// Null: there is none.
const OnnxOperator* find_onnx_operator(const std::string& name);
std::span<const OnnxOperator> onnx_map_operators();

}  // namespace lf
