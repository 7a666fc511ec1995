// U-Nets of images: diffusers' UNet2DModel, and UNetModel of improved-diffusion and
// guided-diffusion.
#include "base/text.h"
#include "checkpoint/layouts/tables.h"

namespace lf {
namespace {

using Place = std::pair<const char*, const char*>;

constexpr Place kDiffusersPlaces[] = {
    {"down.{i}", "down_blocks.{i}"},
    {"middle", "mid_block"},
    {"up.{i}", "up_blocks.{n-1-i}"},
};

constexpr LayoutRule kDiffusersRules[] = {
    {"level.first.{p}", "time_embedding.linear_1.{p}"},
    {"level.second.{p}", "time_embedding.linear_2.{p}"},
    {"classes.weight", "class_embedding.weight"},
    {"first.{p}", "conv_in.{p}"},
    {"last.norm.{p}", "conv_norm_out.{p}"},
    {"last.conv.{p}", "conv_out.{p}"},
    {"@.{k}.block.norm{b}.{p}", "@.resnets.{k}.norm{b}.{p}"},
    {"@.{k}.block.conv{b}.{p}", "@.resnets.{k}.conv{b}.{p}"},
    {"@.{k}.block.level.{p}", "@.resnets.{k}.time_emb_proj.{p}"},
    {"@.{k}.block.skip.{p}", "@.resnets.{k}.conv_shortcut.{p}"},
    {"@.{k}.attention.spatial.norm.{p}", "@.attentions.{k}.group_norm.{p}"},
    {"@.{k}.attention.spatial.qkv.weight", "@.attentions.{k}.{to_q|to_k|to_v}.weight",
     "(3 o) i -> 3 o i"},
    {"@.{k}.attention.spatial.qkv.bias", "@.attentions.{k}.{to_q|to_k|to_v}.bias", "(3 o) -> 3 o"},
    {"@.{k}.attention.spatial.out.{p}", "@.attentions.{k}.to_out.0.{p}"},
    {"down.{i}.resample.{p}", "down_blocks.{i}.downsamplers.0.conv.{p}"},
    {"up.{i}.resample.{p}", "up_blocks.{n-1-i}.upsamplers.0.conv.{p}"},
    {"tokenizer.{*}", ""},
    {"latents.{*}", ""},
};

// Stages of all levels are counted through there.
constexpr Place kOpenaiPlaces[] = {
    {"down.{i}.{k}.block", "input_blocks.{1+s*i+k}.0"},
    {"down.{i}.{k}.attention.spatial", "input_blocks.{1+s*i+k}.1"},
    {"middle.{k}.block", "middle_block.{2*k}"},
    {"middle.0.attention.spatial", "middle_block.1"},
    {"up.{i}.{k}.block", "output_blocks.{s*n-s-s*i+k}.0"},
    {"up.{i}.{k}.attention.spatial", "output_blocks.{s*n-s-s*i+k}.1"},
};

constexpr LayoutRule kOpenaiRules[] = {
    {"level.first.{p}", "time_embed.0.{p}"},
    {"level.second.{p}", "time_embed.2.{p}"},
    {"classes.weight", "label_emb.weight"},
    {"first.{p}", "input_blocks.0.0.{p}"},
    {"last.norm.{p}", "out.0.{p}"},
    {"last.conv.{p}", "out.2.{p}"},
    {"@.norm1.{p}", "@.in_layers.0.{p}"},
    {"@.conv1.{p}", "@.in_layers.2.{p}"},
    {"@.level.{p}", "@.emb_layers.1.{p}"},
    {"@.norm2.{p}", "@.out_layers.0.{p}"},
    {"@.conv2.{p}", "@.out_layers.3.{p}"},
    {"@.skip.{p}", "@.skip_connection.{p}"},
    {"@.norm.{p}", "@.norm.{p}"},
    // Queries, keys and values head by head.
    {"@.qkv.weight", "@.qkv.weight", "(3 h w) c -> (h 3 w) c 1"},
    {"@.qkv.bias", "@.qkv.bias", "(3 h w) -> (h 3 w)"},
    {"@.out.weight", "@.proj_out.weight", "o i -> o i 1"},
    {"@.out.bias", "@.proj_out.bias"},
    {"down.{i}.resample.{p}", "input_blocks.{s*i+s}.0.op.{p}"},
    // After the level's attention, if it has any.
    {"up.{i}.resample.{p}", "output_blocks.{s*n-1-s*i}.2.conv.{p}", "",
     "up.{i}.0.attention.spatial.qkv.weight"},
    {"up.{i}.resample.{p}", "output_blocks.{s*n-1-s*i}.1.conv.{p}", "",
     "!up.{i}.0.attention.spatial.qkv.weight"},
    {"tokenizer.{*}", ""},
    {"latents.{*}", ""},
};

LayoutSizes sizes_of(const ModelConfig& model) {
  const UnetConfig& unet = model.unet();
  LayoutSizes sizes = {{'n', unet.multipliers_size() > 0 ? unet.multipliers_size() : 4},
                       {'s', unet.blocks() + 1}};
  if (unet.head_width() > 0) {
    sizes['w'] = unet.head_width();
  } else {
    sizes['h'] = unet.heads();
  }
  return sizes;
}

int64_t norm_groups_of(const ModelConfig& model) { return model.unet().norm_groups(); }

std::string misfit_of(const ModelConfig& model) {
  const UnetConfig& unet = model.unet();
  if (unet.scaled_sums()) return "model.unet.scaled_sums is true, expected false";
  if (unet.temporal() == UnetConfig::VOLUME) return "model.unet.temporal is VOLUME, expected AFTER";
  return "";
}

std::string diffusers_misfit(const ModelConfig& model) {
  const UnetConfig& unet = model.unet();
  if (unet.heads() != 1 && unet.head_width() == 0) {
    return str("model.unet.heads is ", unet.heads(),
               ", and heads there have one width, expected model.unet.head_width");
  }
  return misfit_of(model);
}

std::string openai_misfit(const ModelConfig& model) {
  if (model.unet().first_ddpm()) return "model.unet.first_ddpm is true, expected false";
  return misfit_of(model);
}

// improved-diffusion has heads of one number, guided-diffusion also of one width.
std::string improved_misfit(const ModelConfig& model) {
  if (model.unet().head_width() > 0)
    return "model.unet.head_width is set, expected model.unet.heads";
  return openai_misfit(model);
}

}  // namespace

const NetworkLayout kDiffusersUnet2d = {
    .name = "diffusers-unet2d",
    .help = "UNet2DModel of diffusers: model.unet of images, without text",
    .model = ModelConfig::kUnet,
    .rules = kDiffusersRules,
    .places = kDiffusersPlaces,
    .sizes = sizes_of,
    .misfit = diffusers_misfit,
    .norm_groups = norm_groups_of,
    .older = kOlderDiffusers,
};

const NetworkLayout kImprovedDiffusion = {
    .name = "improved-diffusion",
    .help = "UNetModel of openai's improved-diffusion: model.unet of images, without text",
    .model = ModelConfig::kUnet,
    .rules = kOpenaiRules,
    .places = kOpenaiPlaces,
    .sizes = sizes_of,
    .misfit = improved_misfit,
    .norm_groups = norm_groups_of,
    .groups = 32,
};

const NetworkLayout kGuidedDiffusion = {
    .name = "guided-diffusion",
    .help =
        "UNetModel of openai's guided-diffusion without resblock_updown and "
        "use_new_attention_order: model.unet of images, without text",
    .model = ModelConfig::kUnet,
    .rules = kOpenaiRules,
    .places = kOpenaiPlaces,
    .sizes = sizes_of,
    .misfit = openai_misfit,
    .norm_groups = norm_groups_of,
    .groups = 32,
};

}  // namespace lf
