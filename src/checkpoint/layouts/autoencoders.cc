// Autoencoders of images: AutoencoderKL and VQModel of diffusers, VQModel of taming-transformers.
#include "checkpoint/layouts/tables.h"

namespace lf {
namespace {

using Place = std::pair<const char*, const char*>;

constexpr Place kDiffusersPlaces[] = {
    {"encoder.level{i}", "encoder.down_blocks.{i}"},
    {"decoder.level{i}", "decoder.up_blocks.{n-1-i}"},
};

constexpr LayoutRule kDiffusersRules[] = {
    {"encoder.pixels.{p}", "encoder.conv_in.{p}"},
    {"encoder.latent.{p}", "encoder.conv_out.{p}"},
    {"decoder.latent.{p}", "decoder.conv_in.{p}"},
    {"decoder.pixels.{p}", "decoder.conv_out.{p}"},
    {"{q}.norm.{p}", "{q}.conv_norm_out.{p}"},
    {"@.block{k}.norm{b}.{p}", "@.resnets.{k}.norm{b}.{p}"},
    {"@.block{k}.conv{b}.{p}", "@.resnets.{k}.conv{b}.{p}"},
    {"@.block{k}.skip.{p}", "@.resnets.{k}.conv_shortcut.{p}"},
    {"@.attention{k}.norm.{p}", "@.attentions.{k}.group_norm.{p}"},
    {"@.attention{k}.qkv.weight", "@.attentions.{k}.{to_q|to_k|to_v}.weight",
     "(3 o) i 1 1 -> 3 o i"},
    {"@.attention{k}.qkv.bias", "@.attentions.{k}.{to_q|to_k|to_v}.bias", "(3 o) -> 3 o"},
    {"@.attention{k}.out.weight", "@.attentions.{k}.to_out.0.weight", "o i 1 1 -> o i"},
    {"@.attention{k}.out.bias", "@.attentions.{k}.to_out.0.bias"},
    {"encoder.level{i}.resize.{p}", "encoder.down_blocks.{i}.downsamplers.0.conv.{p}"},
    {"decoder.level{i}.resize.{p}", "decoder.up_blocks.{n-1-i}.upsamplers.0.conv.{p}"},
    {"{q}.middle.block{k}.norm{b}.{p}", "{q}.mid_block.resnets.{k}.norm{b}.{p}"},
    {"{q}.middle.block{k}.conv{b}.{p}", "{q}.mid_block.resnets.{k}.conv{b}.{p}"},
    {"{q}.middle.attention.norm.{p}", "{q}.mid_block.attentions.0.group_norm.{p}"},
    {"{q}.middle.attention.qkv.weight", "{q}.mid_block.attentions.0.{to_q|to_k|to_v}.weight",
     "(3 o) i 1 1 -> 3 o i"},
    {"{q}.middle.attention.qkv.bias", "{q}.mid_block.attentions.0.{to_q|to_k|to_v}.bias",
     "(3 o) -> 3 o"},
    {"{q}.middle.attention.out.weight", "{q}.mid_block.attentions.0.to_out.0.weight",
     "o i 1 1 -> o i"},
    {"{q}.middle.attention.out.bias", "{q}.mid_block.attentions.0.to_out.0.bias"},
    {"quantiser.in.weight", "quant_conv.weight", "o i -> o i 1 1"},
    {"quantiser.in.bias", "quant_conv.bias"},
    {"quantiser.out.weight", "post_quant_conv.weight", "o i -> o i 1 1"},
    {"quantiser.out.bias", "post_quant_conv.bias"},
    {"quantiser.codebook", "quantize.embedding.weight"},
    {"quantiser.started", "", "", "", LayoutRule::kOnes},
    {"discriminator.{*}", ""},
};

constexpr Place kTamingPlaces[] = {
    {"encoder.level{i}", "encoder.down.{i}"},
    {"decoder.level{i}", "decoder.up.{i}"},
};

constexpr LayoutRule kTamingRules[] = {
    {"encoder.pixels.{p}", "encoder.conv_in.{p}"},
    {"encoder.latent.{p}", "encoder.conv_out.{p}"},
    {"decoder.latent.{p}", "decoder.conv_in.{p}"},
    {"decoder.pixels.{p}", "decoder.conv_out.{p}"},
    {"{q}.norm.{p}", "{q}.norm_out.{p}"},
    {"@.block{k}.norm{b}.{p}", "@.block.{k}.norm{b}.{p}"},
    {"@.block{k}.conv{b}.{p}", "@.block.{k}.conv{b}.{p}"},
    {"@.block{k}.skip.{p}", "@.block.{k}.nin_shortcut.{p}"},
    {"@.attention{k}.norm.{p}", "@.attn.{k}.norm.{p}"},
    {"@.attention{k}.qkv.weight", "@.attn.{k}.{q|k|v}.weight", "(3 o) i 1 1 -> 3 o i 1 1"},
    {"@.attention{k}.qkv.bias", "@.attn.{k}.{q|k|v}.bias", "(3 o) -> 3 o"},
    {"@.attention{k}.out.{p}", "@.attn.{k}.proj_out.{p}"},
    {"encoder.level{i}.resize.{p}", "encoder.down.{i}.downsample.conv.{p}"},
    {"decoder.level{i}.resize.{p}", "decoder.up.{i}.upsample.conv.{p}"},
    {"{q}.middle.block{k}.norm{b}.{p}", "{q}.mid.block_{1+k}.norm{b}.{p}"},
    {"{q}.middle.block{k}.conv{b}.{p}", "{q}.mid.block_{1+k}.conv{b}.{p}"},
    {"{q}.middle.attention.norm.{p}", "{q}.mid.attn_1.norm.{p}"},
    {"{q}.middle.attention.qkv.weight", "{q}.mid.attn_1.{q|k|v}.weight",
     "(3 o) i 1 1 -> 3 o i 1 1"},
    {"{q}.middle.attention.qkv.bias", "{q}.mid.attn_1.{q|k|v}.bias", "(3 o) -> 3 o"},
    {"{q}.middle.attention.out.{p}", "{q}.mid.attn_1.proj_out.{p}"},
    {"quantiser.in.weight", "quant_conv.weight", "o i -> o i 1 1"},
    {"quantiser.in.bias", "quant_conv.bias"},
    {"quantiser.out.weight", "post_quant_conv.weight", "o i -> o i 1 1"},
    {"quantiser.out.bias", "post_quant_conv.bias"},
    {"quantiser.codebook", "quantize.embedding.weight"},
    {"quantiser.started", "", "", "", LayoutRule::kOnes},
    {"discriminator.{*}", ""},
};

LayoutSizes sizes_of(const ModelConfig& model) {
  const int levels = model.vqvae().multipliers_size();
  return {{'n', levels > 0 ? levels : 3}};
}

int64_t norm_groups_of(const ModelConfig& model) { return model.vqvae().norm_groups(); }

std::string kl_misfit(const ModelConfig& model) {
  const QuantiserConfig& quantiser = model.vqvae().quantiser();
  if (!quantiser.has_variational()) return "its quantiser is not model.vqvae.quantiser.variational";
  return quantiser.groups() == 1 ? "" : "model.vqvae.quantiser.groups is not 1";
}

std::string vq_misfit(const ModelConfig& model) {
  const QuantiserConfig& quantiser = model.vqvae().quantiser();
  if (!quantiser.has_learnt()) return "its quantiser is not model.vqvae.quantiser.learnt";
  return quantiser.groups() == 1 ? "" : "model.vqvae.quantiser.groups is not 1";
}

}  // namespace

const NetworkLayout kDiffusersAutoencoderKl = {
    .name = "diffusers-autoencoder-kl",
    .help =
        "AutoencoderKL of diffusers, such as Stable Diffusion's: model.vqvae with "
        "quantiser.variational",
    .model = ModelConfig::kVqvae,
    .rules = kDiffusersRules,
    .places = kDiffusersPlaces,
    .sizes = sizes_of,
    .misfit = kl_misfit,
    .norm_groups = norm_groups_of,
    .older = kOlderDiffusers,
};

const NetworkLayout kDiffusersVq = {
    .name = "diffusers-vq",
    .help = "VQModel of diffusers: model.vqvae with quantiser.learnt",
    .model = ModelConfig::kVqvae,
    .rules = kDiffusersRules,
    .places = kDiffusersPlaces,
    .sizes = sizes_of,
    .misfit = vq_misfit,
    .norm_groups = norm_groups_of,
    .older = kOlderDiffusers,
};

const NetworkLayout kTamingVqgan = {
    .name = "taming-vqgan",
    .help = "VQModel of taming-transformers (VQ-GAN): model.vqvae with quantiser.learnt",
    .model = ModelConfig::kVqvae,
    .rules = kTamingRules,
    .places = kTamingPlaces,
    .sizes = sizes_of,
    .misfit = vq_misfit,
    .norm_groups = norm_groups_of,
    .groups = 32,
    .beside = "loss.",
};

}  // namespace lf
