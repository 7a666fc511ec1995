// video-diffusion-pytorch's Unet3D and phenaki-pytorch's CViViT.
#include <bit>

#include "base/text.h"
#include "checkpoint/layouts/tables.h"

namespace lf {
namespace {

using Place = std::pair<const char*, const char*>;

// Blocks of two convolutions, and attention over frames or, in the middle, within them.
constexpr Place kUnet3dPlaces[] = {
    {"down.{i}.block{b}", "downs.{i}.{b-1}"}, {"middle.block{b}", "mid_block{b}"},
    {"up.{i}.block{b}", "ups.{n-1-i}.{b-1}"}, {"last.block", "final_conv.0"},
    {"first.temporal", "init_temporal_attn"}, {"down.{i}.temporal", "downs.{i}.3"},
    {"middle.spatial", "mid_spatial_attn"},   {"middle.temporal", "mid_temporal_attn"},
    {"up.{i}.temporal", "ups.{n-1-i}.3"},
};

constexpr LayoutRule kUnet3dRules[] = {
    {"level.first.{p}", "time_mlp.1.{p}"},
    {"level.second.{p}", "time_mlp.3.{p}"},
    {"distances.weight", "time_rel_pos_bias.relative_attention_bias.weight"},
    // One module there, under the name of each that uses it.
    {"rotary.frequencies", "init_temporal_attn.fn.fn.fn.rotary_emb.freqs"},
    {"rotary.frequencies", "downs.{i<n}.3.fn.fn.fn.rotary_emb.freqs"},
    {"rotary.frequencies", "mid_temporal_attn.fn.fn.fn.rotary_emb.freqs"},
    {"rotary.frequencies", "ups.{i<n}.3.fn.fn.fn.rotary_emb.freqs"},
    {"first.weight", "init_conv.weight", "o i y x -> o i 1 y x"},
    {"first.bias", "init_conv.bias"},

    {"@.level.{p}", "@.mlp.1.{p}"},
    {"@.block{c}.conv.weight", "@.block{c}.proj.weight", "o i y x -> o i 1 y x"},
    {"@.block{c}.conv.bias", "@.block{c}.proj.bias"},
    {"@.block{c}.norm.weight", "@.block{c}.norm.gamma", "c -> c 1 1 1"},
    {"@.skip.weight", "@.res_conv.weight", "o i y x -> o i 1 y x"},
    {"@.skip.bias", "@.res_conv.bias"},
    {"@.norm.weight", "@.fn.norm.gamma", "c -> 1 c 1 1 1"},
    {"@.qkv.weight", "@.fn.fn.fn.to_qkv.weight"},
    {"@.out.weight", "@.fn.fn.fn.to_out.weight"},

    {"down.{i}.spatial.norm.weight", "downs.{i}.2.fn.norm.gamma", "c -> 1 c 1 1 1"},
    {"down.{i}.spatial.qkv.weight", "downs.{i}.2.fn.fn.to_qkv.weight", "o i -> o i 1 1"},
    {"down.{i}.spatial.out.weight", "downs.{i}.2.fn.fn.to_out.weight", "o i -> o i 1 1"},
    {"down.{i}.spatial.out.bias", "downs.{i}.2.fn.fn.to_out.bias"},
    {"down.{i}.resample.weight", "downs.{i}.4.weight", "o i y x -> o i 1 y x"},
    {"down.{i}.resample.bias", "downs.{i}.4.bias"},
    {"up.{i}.spatial.norm.weight", "ups.{n-1-i}.2.fn.norm.gamma", "c -> 1 c 1 1 1"},
    {"up.{i}.spatial.qkv.weight", "ups.{n-1-i}.2.fn.fn.to_qkv.weight", "o i -> o i 1 1"},
    {"up.{i}.spatial.out.weight", "ups.{n-1-i}.2.fn.fn.to_out.weight", "o i -> o i 1 1"},
    {"up.{i}.spatial.out.bias", "ups.{n-1-i}.2.fn.fn.to_out.bias"},
    {"up.{i}.resample.weight", "ups.{n-1-i}.4.weight", "i o y x -> i o 1 y x"},
    {"up.{i}.resample.bias", "ups.{n-1-i}.4.bias"},

    {"last.conv.weight", "final_conv.1.weight", "o i y x -> o i 1 y x"},
    {"last.conv.bias", "final_conv.1.bias"},
    {"tokenizer.{*}", ""},
    {"latents.{*}", ""},
};
constexpr const char* kUnet3dNeeds[] = {"distances.weight", "middle.temporal.qkv.weight"};

LayoutSizes unet3d_sizes(const ModelConfig& model) {
  const int levels = model.unet3d().multipliers_size();
  return {{'n', levels > 0 ? levels : 4}};
}

std::string unet3d_misfit(const ModelConfig& model) {
  const Unet3dConfig& unet = model.unet3d();
  const int width = unet.spatial_head_width() > 0 ? unet.spatial_head_width() : unet.head_width();
  if (width == 32) return "";
  return str("heads of attention within frames are ", width,
             " wide, expected 32 (model.unet3d.spatial_head_width)");
}

constexpr Place kCvivitPlaces[] = {
    {"encoder.space", "enc_spatial_transformer"},
    {"encoder.time", "enc_temporal_transformer"},
    {"decoder.time", "dec_temporal_transformer"},
    {"decoder.space", "dec_spatial_transformer"},
};

constexpr LayoutRule kCvivitRules[] = {
    {"encoder.first.before.{p}", "to_patch_emb_first_frame.1.{p}", "(y x c) -> (c y x)"},
    {"encoder.first.linear.weight", "to_patch_emb_first_frame.2.weight", "d (y x c) -> d (c y x)"},
    {"encoder.first.linear.bias", "to_patch_emb_first_frame.2.bias"},
    {"encoder.first.after.{p}", "to_patch_emb_first_frame.3.{p}"},
    {"encoder.rest.before.{p}", "to_patch_emb.1.{p}", "(t y x c) -> (c t y x)"},
    {"encoder.rest.linear.weight", "to_patch_emb.2.weight", "d (t y x c) -> d (c t y x)"},
    {"encoder.rest.linear.bias", "to_patch_emb.2.bias"},
    {"encoder.rest.after.{p}", "to_patch_emb.3.{p}"},
    {"offsets.first.{p}", "spatial_rel_pos_bias.net.0.0.{p}"},
    {"offsets.second.{p}", "spatial_rel_pos_bias.net.1.0.{p}"},
    {"offsets.third.{p}", "spatial_rel_pos_bias.net.2.{p}"},

    {"@.{i}.position.{p}", "@.layers.{i}.0.dsconv.{p}"},
    {"@.{i}.attention.norm.weight", "@.layers.{i}.1.norm.gamma"},
    {"@.{i}.attention.query.weight", "@.layers.{i}.1.to_q.weight"},
    {"@.{i}.attention.key_value.weight", "@.layers.{i}.1.to_kv.weight"},
    {"@.{i}.attention.query_scale", "@.layers.{i}.1.q_scale"},
    {"@.{i}.attention.key_scale", "@.layers.{i}.1.k_scale"},
    {"@.{i}.attention.out.weight", "@.layers.{i}.1.to_out.weight"},
    {"@.{i}.feed_forward.norm.{p}", "@.layers.{i}.3.0.{p}"},
    {"@.{i}.feed_forward.in.weight", "@.layers.{i}.3.1.weight"},
    {"@.{i}.feed_forward.out.weight", "@.layers.{i}.3.4.weight"},
    {"@.norm.weight", "@.norm_out.gamma"},
    // Norms have a shift that is never trained. Attention within a sequence does not use the norm
    // of a context, and has no keys and values of nothing.
    {"@.{i}.attention.norm.weight", "@.layers.{i}.1.norm.beta", "", "", LayoutRule::kZeros},
    {"@.{i}.attention.norm.weight", "@.layers.{i}.1.context_norm.gamma", "", "", LayoutRule::kOnes},
    {"@.{i}.attention.norm.weight", "@.layers.{i}.1.context_norm.beta", "", "", LayoutRule::kZeros},
    {"@.{i}.attention.query_scale", "@.layers.{i}.1.null_kv", "d -> h 0 d", "", LayoutRule::kZeros},
    {"@.norm.weight", "@.norm_out.beta", "", "", LayoutRule::kZeros},

    {"quantiser.in.{p}", "vq.project_in.{p}"},
    {"quantiser.out.{p}", "vq.project_out.{p}"},
    {"quantiser.in.bias", "vq.mask", "", "", LayoutRule::kPowersOfTwo},
    {"decoder.first.weight", "to_pixels_first_frame.0.weight", "(y x c) d -> (c y x) d"},
    {"decoder.first.bias", "to_pixels_first_frame.0.bias", "(y x c) -> (c y x)"},
    {"decoder.rest.weight", "to_pixels.0.weight", "(t y x c) d -> (c t y x) d"},
    {"decoder.rest.bias", "to_pixels.0.bias", "(t y x c) -> (c t y x)"},
    {"discriminator.{*}", ""},
};
constexpr const char* kCvivitNeeds[] = {"encoder.first.before.weight",
                                        "encoder.rest.linear.weight"};

LayoutSizes cvivit_sizes(const ModelConfig& model) {
  const CvivitConfig& cvivit = model.cvivit();
  return {{'t', cvivit.temporal_patch()},
          {'y', cvivit.patch()},
          {'x', cvivit.patch()},
          {'h', cvivit.heads()}};
}

std::string cvivit_misfit(const ModelConfig& model) {
  const CvivitConfig& cvivit = model.cvivit();
  if (!cvivit.quantiser().has_lfq() || cvivit.quantiser().groups() != 1) {
    return "its quantiser is not model.cvivit.quantiser.lfq with one group";
  }
  if (!std::has_single_bit(static_cast<unsigned>(cvivit.heads()))) {
    return str("model.cvivit.heads is ", cvivit.heads(), ", expected a power of two");
  }
  return cvivit.raw_keys() ? "" : "model.cvivit.raw_keys is false, expected true";
}

}  // namespace

const NetworkLayout kLucidrainsUnet3d = {
    .name = "lucidrains-unet3d",
    .help = "Unet3D of video-diffusion-pytorch: model.unet3d of clips, without classes and text",
    .model = ModelConfig::kUnet3D,
    .rules = kUnet3dRules,
    .places = kUnet3dPlaces,
    .sizes = unet3d_sizes,
    .misfit = unet3d_misfit,
    .needs = kUnet3dNeeds,
};

const NetworkLayout kPhenakiCvivit = {
    .name = "phenaki-cvivit",
    .help =
        "CViViT of phenaki-pytorch: model.cvivit of clips with patch_norm: BOTH, raw_keys: true "
        "and "
        "quantiser.lfq, without a stem",
    .model = ModelConfig::kCvivit,
    .rules = kCvivitRules,
    .places = kCvivitPlaces,
    .sizes = cvivit_sizes,
    .misfit = cvivit_misfit,
    .needs = kCvivitNeeds,
};

}  // namespace lf
