// Every layout on random weights of ours: names and shapes as the other program's own code makes
// them (a fixture), the way there and back to the byte, and what is refused.
#include "checkpoint/relayout.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "checkpoint/layouts/axes.h"
#include "config/config.h"
#include "model/model.h"
#include "run/clips.h"
#include "tests/checkpoint/checkpoint_fixture.h"

namespace lf {
namespace {

struct Peer {
  std::string layout;
  std::vector<std::string> sets;
  std::map<std::string, std::string> shapes;  // "32,3,3,3" by name
};

std::vector<Peer> peers() {
  std::ifstream in(LF_FIXTURES "/layouts.txt");
  std::vector<Peer> peers;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("= ")) {
      peers.push_back({line.substr(2), {}, {}});
    } else if (line.starts_with("set ")) {
      peers.back().sets.push_back(line.substr(4));
    } else {
      peers.back().shapes[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
    }
  }
  return peers;
}

std::string shape_text(const TensorLayout& tensor) {
  std::vector<std::string> extents;
  for (const int64_t extent : tensor.shape) extents.push_back(std::to_string(extent));
  return join(extents, ",");
}

// A network of ours whose every weight is random.
struct Network {
  Config config;
  std::unique_ptr<Model> model;
  std::vector<NamedTensor> tensors;

  Network(const std::vector<std::string>& sets, uint64_t seed) {
    config = load_config("", sets);
    config.mutable_train()->set_seed(seed);
    model = make_model(config, shape_of_config(config), at::kCPU);
    tensors = model->parameters().weights();
    const auto& buffers = model->parameters().buffers();
    tensors.insert(tensors.end(), buffers.begin(), buffers.end());
    ParameterTable random(seed, at::kCPU, model->parameters().kernels());
    for (const NamedTensor& named : tensors) {
      named.tensor.detach().copy_(random.weight(named.name, named.tensor.sizes(), Init::kNormal));
      if (named.name == "quantiser.started") named.tensor.fill_(1);  // as after training
    }
  }

  LoadableTensors source() const {
    LoadableTensors made;
    for (const NamedTensor& named : tensors) made.layouts.push_back(layout_of(named));
    made.load = [found = by_name(tensors)](const std::string& name) {
      return found.at(name).detach().contiguous();
    };
    return made;
  }
};

Peer peer_of(const std::string& layout) {
  for (const Peer& peer : peers()) {
    if (peer.layout == layout) return peer;
  }
  ADD_FAILURE() << "no fixture of " << layout;
  return {};
}

TEST(Relayout, EveryLayoutHasTheNamesAndShapesOfTheOtherProgramsOwnNetwork) {
  std::set<std::string> listed, known;
  for (const NetworkLayout* layout : layout_table()) listed.insert(layout->name);
  for (const Peer& peer : peers()) {
    known.insert(peer.layout);
    const Network network(peer.sets, 1);
    const LoadableTensors theirs =
        in_layout(layout_of_name(peer.layout), network.config, network.source(), "x");
    std::map<std::string, std::string> shapes;
    for (const TensorLayout& tensor : theirs.layouts) shapes[tensor.name] = shape_text(tensor);
    EXPECT_EQ(shapes, peer.shapes) << peer.layout;
  }
  EXPECT_EQ(listed, known);
}

TEST(Relayout, RandomWeightsComeBackToTheByteInEveryLayout) {
  const std::string folder = fresh_folder();
  for (const Peer& peer : peers()) {
    const NetworkLayout& layout = layout_of_name(peer.layout);
    const Network network(peer.sets, 1), other(peer.sets, 2);
    const std::string path = folder + "/" + peer.layout + ".safetensors";
    publish_tensor_file(real_file_system(), path,
                        in_layout(layout, network.config, network.source(), "x"), {});
    const SafetensorsFile file(real_file_system(), path);
    read_layout(layout, other.config, file, other.tensors);
    for (size_t i = 0; i < network.tensors.size(); ++i) {
      const at::Tensor &before = network.tensors[i].tensor, &after = other.tensors[i].tensor;
      EXPECT_TRUE(at::equal(before, after)) << peer.layout << " " << network.tensors[i].name;
    }
  }
}

TEST(Relayout, HalfPrecisionIsReadAndValuesBeyondItAreNamed) {
  const Peer peer = peer_of("dit");
  const NetworkLayout& layout = layout_of_name(peer.layout);
  const Network network(peer.sets, 1), other(peer.sets, 2);
  const std::string path = fresh_folder() + "/half.safetensors";
  const auto half = [&] {
    return in_type(DType::kF16, in_layout(layout, network.config, network.source(), "x"), "x");
  };
  publish_tensor_file(real_file_system(), path, half(), {});
  read_layout(layout, other.config, SafetensorsFile(real_file_system(), path), other.tensors);
  for (size_t i = 0; i < network.tensors.size(); ++i) {
    EXPECT_TRUE(
        at::equal(network.tensors[i].tensor.to(at::kHalf).to(at::kFloat), other.tensors[i].tensor))
        << network.tensors[i].name;
  }
  network.tensors[0].tensor.detach().fill_(1e6);
  const std::string said =
      error_of(Code::kUsage, [&] { publish_tensor_file(real_file_system(), path, half(), {}); });
  expect_contains(said, "'t_embedder.mlp.0.weight'");
  expect_contains(said, "beyond F16");
}

TEST(Relayout, NetworksThatALayoutCannotHoldAreRefusedWithTheTensorOrOption) {
  const auto refused = [](const char* layout, const std::vector<std::string>& sets,
                          const std::vector<std::string>& words) {
    const Network network(sets, 1);
    const std::string said = error_of(Code::kUsage, [&] {
      in_layout(layout_of_name(layout), network.config, network.source(), "runs/x");
    });
    for (const std::string& word : words) expect_contains(said, word);
  };
  const std::vector<std::string> image = {"source.size=8", "source.channels=3", "recipe.frames=1"};
  const auto with = [&](std::vector<std::string> sets) {
    sets.insert(sets.begin(), image.begin(), image.end());
    return sets;
  };
  const std::string unet = "model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 ";
  refused("diffusers-unet2d", with({unet + "}"}), {"norm.weight' F32 [8]", "norm_groups"});
  refused("diffusers-unet2d", with({unet + "norm_groups: 4 heads: 2 }"}),
          {"heads is 2", "head_width"});
  refused("diffusers-unet2d", with({unet + "norm_groups: 4 scaled_sums: true }"}), {"scaled_sums"});
  refused("diffusers-unet2d", with({unet + "norm_groups: 4 }", "recipe.frames=3"}),
          {"has no place for '"});
  refused("improved-diffusion", with({unet + "norm_groups: 4 }"}),
          {"32 groups", "norm_groups is 4"});
  refused("dit", with({unet + "}"}), {"not for this kind of model"});
  refused("dit", with({"model.dit={ width: 16 layers: 1 heads: 2 }"}), {"needs 'classes.weight'"});
  refused("lucidrains-unet3d", with({"model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 }"}),
          {"needs 'distances.weight'"});
  refused("lucidrains-unet3d",
          {"source.size=8", "source.channels=3", "recipe.frames=3", "model.diffusion.classes=4",
           "model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 }"},
          {"no place for 'classes.weight' F32 [5, 32]"});
  refused("taming-vqgan", with({"model.vqvae={ width: 32 norm_groups: 32 }"}),
          {"quantiser.learnt"});
}

TEST(Axes, FollowEinopsAndRefuseWhatDoesNotFit) {
  const LayoutSizes sizes = {{'h', 2}};
  const auto made = rearrangement("(3 h w) c -> (h 3 w) c 1", {12, 5}, sizes);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->view, (std::vector<int64_t>{3, 2, 2, 5}));
  EXPECT_EQ(made->order, (std::vector<int64_t>{1, 0, 2, 3}));
  EXPECT_EQ(made->shape, (std::vector<int64_t>{12, 5, 1}));
  EXPECT_FALSE(rearrangement("(3 h w) c -> (h 3 w) c 1", {10, 5}, sizes));
  EXPECT_FALSE(rearrangement("o i 1 1 -> o i", {4, 4, 3, 1}, sizes));
  EXPECT_FALSE(rearrangement("o i -> o i 1", {4, 4, 1}, sizes));
}

}  // namespace
}  // namespace lf
