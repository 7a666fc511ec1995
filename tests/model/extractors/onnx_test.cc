#include "model/extractors/onnx.h"

#include <gtest/gtest.h>

#include "checkpoint/onnx_file.h"
#include "eval/resize_images.h"
#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

onnx::ModelProto network(const std::string& name) {
  return read_onnx(real_file_system(), str(LF_FIXTURES, "/extractors/", name, ".onnx"));
}

std::unique_ptr<Extractor> extractor_of(const onnx::ModelProto& model,
                                        const std::string& file = "folder/Some-Net.onnx") {
  // Through the checks of the file, which the operators count on.
  return make_onnx(parse_onnx(model.SerializeAsString(), file), file, "0123456789abcdef",
                   resize_images, at::kCPU);
}

onnx::NodeProto& node_named(onnx::ModelProto& model, const std::string& type) {
  for (onnx::NodeProto& node : *model.mutable_graph()->mutable_node()) {
    if (node.op_type() == type) return node;
  }
  LF_CHECK(false, "no ", type);
  return *model.mutable_graph()->mutable_node(0);
}

onnx::AttributeProto& attribute(onnx::NodeProto& node, const std::string& name) {
  for (onnx::AttributeProto& one : *node.mutable_attribute()) {
    if (one.name() == name) return one;
  }
  onnx::AttributeProto& made = *node.add_attribute();
  made.set_name(name);
  return made;
}

TEST(Onnx, FeaturesEqualOnnxRuntimes) {
  const TensorsByName expected = fixture("onnx.safetensors");
  const at::Tensor clips = as_clips(expected.at("images"));
  const std::vector<std::pair<std::string, std::vector<std::string>>> kNetworks = {
      {"torch_like", {"output", "output2", "features"}}, {"tf_like", {"output", "features"}}};
  for (const auto& [name, layers] : kNetworks) {
    const auto extractor = extractor_of(network(name));
    EXPECT_EQ(extractor->name(), name == "torch_like" ? "small" : "some_net");
    const std::vector<at::Tensor> made = extractor->features(clips, layers);
    for (size_t i = 0; i < layers.size(); ++i) {
      EXPECT_LT(row_error(made[i], expected.at(name + "." + layers[i])), 1e-5)
          << name << " " << layers[i];
    }
    EXPECT_EQ(extractor->layers().back().name, "features");  // what metrics look at
    EXPECT_EQ(extractor->layers().back().dim, made.back().size(1));
  }
}

TEST(Onnx, WhatIsNotSupportedIsNamed) {
  const auto complaint = [](const std::string& name, const auto& change) {
    onnx::ModelProto model = network(name);
    change(model);
    return error_of(Code::kCheckpoint, [&] { extractor_of(model); });
  };
  std::string said = complaint("torch_like", [](onnx::ModelProto& model) {
    node_named(model, "HardSwish").set_op_type("QLinearConv");
  });
  EXPECT_TRUE(contains(said, "node 10 (QLinearConv) is an operator that is not supported")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    attribute(node_named(model, "Softmax"), "temperature");
  });
  EXPECT_TRUE(contains(said, "(Softmax) has the attribute temperature")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    node_named(model, "Add").set_input(1, "mask");  // of Dropout, moved behind it
    onnx::NodeProto add = node_named(model, "Add");
    auto* nodes = model.mutable_graph()->mutable_node();
    node_named(model, "Add").set_input(1, "both");
    add.set_output(0, "unused");
    *nodes->Add() = add;
    model.mutable_graph()->mutable_output(1)->set_name("unused");
  });
  EXPECT_TRUE(contains(said, "(Add) needs its input 1, which is missing or an output")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    model.mutable_metadata_props(0)->set_key("lastframe.men");
  });
  EXPECT_TRUE(contains(said, "lastframe.men is '123.675")) << said;
  said = complaint("tf_like", [](onnx::ModelProto& model) {
    auto* dims = model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type();
    dims->mutable_shape()->mutable_dim(3)->set_dim_value(4);
  });
  EXPECT_TRUE(contains(said, "[1, 12, 10, 4] (0: free), expected float [N, 3, H, W]")) << said;
  EXPECT_TRUE(contains(
      error_of(Code::kUsage, [] { extractor_of(network("tf_like"), "Inception_v3.onnx"); }),
      "'inception_v3', a name of others"));
}

// Each would take more memory than there is, or read beyond what there is.
TEST(Onnx, HostileNodesAreRefusedBeforeTheirValuesAreMade) {
  const auto complaint = [](const std::string& name, const auto& change) {
    onnx::ModelProto model = network(name);
    change(model);
    return error_of(Code::kCheckpoint, [&] { extractor_of(model); });
  };
  std::string said = complaint("torch_like", [](onnx::ModelProto& model) {
    for (int64_t& pad : *attribute(node_named(model, "AveragePool"), "pads").mutable_ints()) {
      pad = 1 << 19;
    }
  });
  EXPECT_TRUE(contains(said, "(AveragePool) makes a tensor of [1, 9, 10485")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    attribute(node_named(model, "MaxPool"), "strides").set_ints(0, 0);
  });
  EXPECT_TRUE(contains(said, "(MaxPool) has 0 in strides")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    for (onnx::TensorProto& tensor : *model.mutable_graph()->mutable_initializer()) {
      if (tensor.name() == "first") tensor.set_raw_data(std::string("\0\0\0\0\0\0\0\x40", 8));
    }
  });
  EXPECT_TRUE(contains(said, "(Gather) takes an element beyond the 4 there are")) << said;
  said = complaint("torch_like", [](onnx::ModelProto& model) {
    onnx::NodeProto& node = node_named(model, "Softmax");  // of [7] in place of the linear map
    node.set_op_type("ConstantOfShape");
    node.clear_attribute();
    node.set_input(0, "huge");
    onnx::TensorProto& huge = *model.mutable_graph()->add_initializer();
    huge.set_name("huge");
    huge.set_data_type(onnx::TensorProto::INT64);
    huge.add_dims(2);
    huge.add_int64_data(int64_t{1} << 40);
    huge.add_int64_data(int64_t{1} << 40);
  });
  EXPECT_TRUE(contains(said, "(ConstantOfShape) makes a tensor of [1099511627776, ")) << said;
  said = complaint(
      "tf_like", [](onnx::ModelProto& model) { node_named(model, "MatMul").set_input(1, "bias"); });
  EXPECT_TRUE(contains(said, "(MatMul) cannot be computed")) << said;
}

}  // namespace
}  // namespace lf
