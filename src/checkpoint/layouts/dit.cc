// DiT of facebookresearch.
#include "checkpoint/layouts/tables.h"

namespace lf {
namespace {

constexpr LayoutRule kRules[] = {
    {"first.weight", "x_embedder.proj.weight", "d (y x c) -> d c y x"},
    {"first.bias", "x_embedder.proj.bias"},
    {"places", "pos_embed", "n d -> 1 n d"},
    {"level.first.{p}", "t_embedder.mlp.0.{p}"},
    {"level.second.{p}", "t_embedder.mlp.2.{p}"},
    {"classes.weight", "y_embedder.embedding_table.weight"},
    {"layers.{i}.spatial.say.{p}", "blocks.{i}.adaLN_modulation.1.{p}"},
    {"layers.{i}.spatial.qkv.{p}", "blocks.{i}.attn.qkv.{p}"},
    {"layers.{i}.spatial.out.{p}", "blocks.{i}.attn.proj.{p}"},
    {"layers.{i}.spatial.wide.{p}", "blocks.{i}.mlp.fc1.{p}"},
    {"layers.{i}.spatial.narrow.{p}", "blocks.{i}.mlp.fc2.{p}"},
    {"last.say.{p}", "final_layer.adaLN_modulation.1.{p}"},
    {"last.linear.{p}", "final_layer.linear.{p}"},
    {"tokenizer.{*}", ""},
    {"latents.{*}", ""},
};
constexpr const char* kNeeds[] = {"classes.weight"};

LayoutSizes sizes_of(const ModelConfig& model) {
  return {{'y', model.dit().patch()}, {'x', model.dit().patch()}};
}
std::string misfit_of(const ModelConfig& /*model*/) { return ""; }

}  // namespace

const NetworkLayout kDit = {
    .name = "dit",
    .help =
        "DiT of facebookresearch: model.dit of images with model.diffusion.classes, without text",
    .model = ModelConfig::kDit,
    .rules = kRules,
    .places = {},
    .sizes = sizes_of,
    .misfit = misfit_of,
    .needs = kNeeds,
};

}  // namespace lf
