#include "model/extractors/vit.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "eval/resize_images.h"
#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

std::unique_ptr<Extractor> vit_of(TensorsByName tensors,
                                  std::map<std::string, std::string> metadata = {}) {
  metadata.emplace("heads", "2");
  Weights weights = weights_of(std::move(tensors), std::move(metadata));
  EXPECT_TRUE(is_vit(weights));
  return make_vit(weights, resize_images);
}

TensorsByName tensors_of(const std::string& network) {
  return formula_tensors(layout_file("vit-" + network));
}

// Positions at another grid by either rule, SwiGLU, registers, and pictures that are cut.
TEST(Vit, FeaturesEqualTransformersForTheSameWeights) {
  const TensorsByName expected = fixture("vit.safetensors");
  const struct {
    const char *network, *name, *activation;
  } kNetworks[] = {{"dino", "dinov2_vit24x2p14", ""},
                   {"dino-registers", "dinov2_vit24x2p14_reg", ""},
                   {"clip", "clip_vit24x2p16_48_gelu", "gelu"},
                   {"clip-openai", "clip_vit24x2p16_48", "quick_gelu"}};
  for (const auto& [network, name, activation] : kNetworks) {
    const auto vit = vit_of(tensors_of(network), {{"activation", activation}});
    EXPECT_EQ(vit->name(), name);
    const at::Tensor made = vit->features(as_clips(expected.at("images")), {"features"}).front();
    EXPECT_LT(row_error(made, expected.at(network)), 1e-5) << network;
    EXPECT_EQ(vit->layers().front().dim, made.size(1));
  }
}

// timm keeps the position of the class token in the token itself, and calls registers otherwise.
TEST(Vit, TimmsFormOfRegistersGivesTheSameFeatures) {
  TensorsByName tensors;
  const TensorsByName expected = fixture("vit.safetensors");
  const std::map<std::string, std::string> pairs = {
      {"encoder.layer.", "blocks."},
      {"layer_scale1.lambda1", "ls1.gamma"},
      {"layer_scale2.lambda1", "ls2.gamma"},
      {"attention.output.dense", "attn.proj"},
      {"embeddings.cls_token", "cls_token"},
      {"embeddings.position_embeddings", "pos_embed"},
      {"embeddings.register_tokens", "reg_token"},
      {"embeddings.mask_token", "mask_token"},
      {"embeddings.patch_embeddings.projection", "patch_embed.proj"},
      {"layernorm", "norm"}};
  TensorsByName theirs = tensors_of("dino-registers");
  for (const auto& [name, tensor] : theirs) {
    std::string to = name;
    for (const auto& [from, word] : pairs) {
      if (const size_t at = to.find(from); at != std::string::npos) {
        to.replace(at, from.size(), word);
      }
    }
    const size_t query = to.find("attention.attention.");
    if (query == std::string::npos) {
      tensors[to] = tensor;
    } else if (to.find(".query.") != std::string::npos) {
      const auto part = [&](const char* which) {
        std::string other = name;
        return theirs.at(other.replace(other.find("query"), 5, which));
      };
      tensors[to.substr(0, query) + "attn.qkv" + to.substr(to.rfind('.'))] =
          at::cat({tensor, part("key"), part("value")});
    }
  }
  at::Tensor& positions = tensors.at("pos_embed");
  tensors.at("cls_token") = tensors.at("cls_token") + positions.slice(1, 0, 1);
  positions = positions.slice(1, 1);
  const auto vit = vit_of(tensors);
  EXPECT_EQ(vit->name(), "dinov2_vit24x2p14_reg");
  const at::Tensor made = vit->features(as_clips(expected.at("images")), {"features"}).front();
  EXPECT_LT(row_error(made, expected.at("dino-registers")), 1e-5);
}

TEST(Vit, FilesOfOtherNetworksAreNamed) {
  const auto complaint = [](TensorsByName tensors, std::map<std::string, std::string> metadata) {
    return error_of(Code::kCheckpoint, [&] { vit_of(tensors, metadata); });
  };
  const TensorsByName dino = tensors_of("dino"), clip = tensors_of("clip");
  EXPECT_TRUE(
      contains(complaint(dino, {{"heads", "5"}}), "heads is '5'; expected a divisor of 24"));
  EXPECT_TRUE(contains(complaint(clip, {{"activation", "relu"}}), "expected gelu or quick_gelu"));
  TensorsByName cut = dino;
  cut.erase("blocks.1.mlp.w12.bias");
  EXPECT_TRUE(contains(complaint(cut, {}), "no tensor 'blocks.1.mlp.w12.bias'"));
  TensorsByName uneven = dino;
  uneven["pos_embed"] = uneven["pos_embed"].slice(1, 3);
  EXPECT_TRUE(contains(complaint(uneven, {}), "'pos_embed' has 62 positions"));
  TensorsByName more = clip;
  more["head.weight"] = more["visual_projection.weight"];
  EXPECT_TRUE(contains(complaint(more, {}), "also holds 'head.weight' [10, 24]"));
  EXPECT_TRUE(contains(
      error_of(Code::kUsage,
               [&] {
                 vit_of(clip)->features(at::zeros({1, 1, 1, 33, 3}, at::kByte), {"features"});
               }),
      "33x1 pixels"));
}

}  // namespace
}  // namespace lf
