#include "checkpoint/onnx_file.h"

#include <gtest/gtest.h>

#include "tests/error_of.h"

namespace lf {
namespace {

using onnx::ModelProto;

ModelProto network() {
  return read_onnx(real_file_system(), str(LF_FIXTURES, "/extractors/torch_like.onnx"));
}

std::string complaint(const std::string& bytes) {
  return error_of(Code::kCheckpoint, [&] { parse_onnx(bytes, "net.onnx"); });
}

template <typename Change>
std::string complaint_of(const Change& change) {
  ModelProto model = network();
  change(model);
  return complaint(model.SerializeAsString());
}

TEST(OnnxFile, GraphsThatDoNotHoldTogetherAreRefused) {
  const std::vector<std::pair<std::function<void(ModelProto&)>, const char*>> kChanges = {
      {[](ModelProto& m) { m.mutable_opset_import(0)->set_version(6); },
       "is of opset 6, expected 7"},
      {[](ModelProto& m) { m.clear_graph(); }, "has no graph"},
      {[](ModelProto& m) { m.add_functions("f"); }, "defines functions"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_node(0)->set_domain("com.others"); },
       "node 0 (Conv) is an operator of com.others"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_node(0)->set_input(0, "r1"); },
       "node 0 (Conv) needs 'r1', which a later node makes: the graph has a cycle"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_node(0)->set_input(1, "w9"); },
       "node 0 (Conv) needs 'w9', which nothing makes"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_node(1)->set_output(0, "c1"); },
       "node 1 (BatchNormalization) makes 'c1', which is there already"},
      {[](ModelProto& m) {
         auto* node = m.mutable_graph()->mutable_node(0);
         *node->add_attribute() = node->attribute(0);
       },
       "node 0 (Conv) has the attribute pads twice"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_node(0)->mutable_attribute(0)->set_g("x"); },
       "node 0 (Conv) has a subgraph"},
      {[](ModelProto& m) { m.mutable_graph()->mutable_output(0)->set_name("z"); },
       "has the output 'z', which no node makes"},
      {[](ModelProto& m) { m.mutable_graph()->add_input()->set_name("x2"); },
       "has 2 inputs: x, x2"}};
  for (const auto& [change, message] : kChanges) {
    const std::string said = complaint_of(change);
    EXPECT_TRUE(contains(said, message)) << said;
  }
}

TEST(OnnxFile, TensorsAreCheckedBeforeAnythingIsAllocated) {
  const auto of_tensor = [](const std::function<void(onnx::TensorProto&)>& change) {
    return complaint_of(
        [&](ModelProto& model) { change(*model.mutable_graph()->mutable_initializer(0)); });
  };
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.set_dims(0, int64_t{1} << 60); }),
                       "tensor 'w1' has an extent of"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.set_dims(0, -6); }), "has an extent of -6"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.set_dims(0, 1 << 20); }),
                       "has 162 values, its extents say 28311552"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.mutable_raw_data()->pop_back(); }),
                       "has 647 bytes of values of 4 bytes"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.set_data_location(1); }), "lies in another file"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.set_data_type(2); }), "is of ONNX's type 2"));
  EXPECT_TRUE(contains(of_tensor([](auto& t) { t.add_float_data(1); }), "and others beside them"));
}

TEST(OnnxFile, WhatIsNoSuchFileIsRefusedWithinBounds) {
  const std::string whole = network().SerializeAsString();
  EXPECT_TRUE(contains(complaint(""), "is no ONNX file"));
  EXPECT_TRUE(contains(complaint("PK\x03\x04 and so on"), "is no ONNX file"));
  for (size_t length = 1; length < whole.size(); length += 97) {
    error_of(Code::kCheckpoint, [&] { parse_onnx(whole.substr(0, length), "net.onnx"); });
  }
  // Millions of empty nodes, each two bytes here and a hundred in memory.
  std::string nodes;
  for (int i = 0; i < 6'000'000; ++i) nodes += std::string("\x0a\x00", 2);
  std::string model = "\x3a";
  for (size_t left = nodes.size(); left > 0; left >>= 7) {
    model += static_cast<char>((left & 127) | (left > 127 ? 128 : 0));
  }
  EXPECT_TRUE(contains(complaint(model + nodes), "beside the values of its tensors")) << "nodes";
}

}  // namespace
}  // namespace lf
