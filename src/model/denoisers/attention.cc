#include "model/denoisers/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/alias.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

#include "kernels/linear_attention.h"

namespace lf {
namespace {

constexpr int64_t kDistances = 32;
constexpr double kFarthest = 32;  // frames; farther offsets share a range

// Half of the ranges are for each direction; half of those hold one offset each, the others grow
// geometrically.
at::Tensor distance_range(const at::Tensor& offset) {
  constexpr int64_t kSide = kDistances / 2, kSingle = kSide / 2;
  const at::Tensor distance = offset.abs();
  const at::Tensor far =
      kSingle +
      ((distance.clamp_min(1).to(at::kFloat) / static_cast<double>(kSingle)).log() *
       (static_cast<double>(kSide - kSingle) / std::log(kFarthest / static_cast<double>(kSingle))))
          .to(at::kLong)
          .clamp_max(kSide - kSingle - 1);
  return at::where(distance < kSingle, distance, far) + (offset < 0).to(at::kLong) * kSide;
}

// 0 where frame i attends to frame j, else -inf: frames of the video to each other, all others to
// themselves only. [B, 1, 1, T, T]
at::Tensor frame_mask(const at::Tensor& role_BT) {
  const at::Tensor in_video = role_BT <= static_cast<uint8_t>(FrameRole::kLatent);
  const at::Tensor itself = at::eye(role_BT.size(1), role_BT.options().dtype(at::kBool));
  const at::Tensor sees =
      in_video.unsqueeze(2).logical_and(in_video.unsqueeze(1)).logical_or(itself);
  const at::Tensor none = at::zeros_like(sees, at::kFloat);
  return none.masked_fill(sees.logical_not(), -std::numeric_limits<double>::infinity())
      .unsqueeze(1)
      .unsqueeze(1);
}

}  // namespace

DistanceBias::DistanceBias(const Scope& scope, int64_t heads)
    : weight(scope.weight("weight", {kDistances, heads}, Init::kNormal)) {}

at::Tensor DistanceBias::operator()(const at::Tensor& index_BT) const {
  const at::Tensor offset = index_BT.unsqueeze(2) - index_BT.unsqueeze(1);  // query minus key
  return at::embedding(weight, distance_range(offset)).permute({0, 3, 1, 2}).unsqueeze(1);
}

Rotary::Rotary(const Scope& scope, int64_t width)
    : frequencies(scope.constant(
          "frequencies",
          at::pow(10000.0, at::arange(0, width, 2, at::kFloat) / -static_cast<double>(width)))) {}

at::Tensor Rotary::angles(const at::Tensor& index_BT) const {
  return (index_BT.to(at::kFloat).unsqueeze(-1) * frequencies).unsqueeze(1).unsqueeze(1);
}

at::Tensor rotated(const at::Tensor& x, const at::Tensor& angles) {
  const int64_t width = 2 * angles.size(-1);
  const at::Tensor head = x.slice(-1, 0, width), cos = angles.cos().to(x.scalar_type()),
                   sin = angles.sin().to(x.scalar_type());
  const at::Tensor even = head.slice(-1, 0, width, 2), odd = head.slice(-1, 1, width, 2);
  const at::Tensor pairs =
      at::stack({even * cos - odd * sin, odd * cos + even * sin}, -1).flatten(-2);
  return width == x.size(-1) ? pairs : at::cat({pairs, x.slice(-1, width)}, -1);
}

FrameContext frame_context(const NoisyClips& clips, const std::optional<DistanceBias>& distances,
                           const std::optional<Rotary>& rotary) {
  FrameContext context;
  context.frames = clips.frames();
  if (distances) context.bias = (*distances)(clips.index_BT);
  if (rotary) {
    context.angles = rotary->angles(clips.index_BT);
    context.rotation = at::stack({context.angles.cos(), context.angles.sin()}, -1).flatten(0, 2);
  }
  if (clips.role_BT.defined()) context.mask = frame_mask(clips.role_BT);
  return context;
}

at::Tensor FrameContext::logit_bias() const {
  if (!bias.defined()) return mask;
  return mask.defined() ? bias + mask : bias;
}

bool FrameContext::same_for_all_clips() const {
  return (!bias.defined() || bias.size(0) == 1) && (!rotation.defined() || rotation.size(0) == 1);
}

void FrameContext::add_to(AttentionWeights& weights, int64_t clips) const {
  if (bias.defined()) weights.bias = bias[0][0];
  if (rotation.defined()) weights.rotary = rotation[0];
  if (mask.defined()) weights.mask = mask.flatten(0, 2).expand({clips, -1, -1});
}

at::Tensor run_block(const NetworkBlock& block, const Tensors& weights, const at::Tensor& x,
                     const BlockCall& call, bool again) {
  if (!again) {
    // Aliased as recompute() does, so that gradients accumulate in the same order, to the bit.
    const auto once = [](const at::Tensor& t) { return t.defined() ? at::alias(t) : t; };
    BlockCall same = call;
    same.embedding = once(call.embedding);
    same.frames.bias = once(call.frames.bias);
    return block(once(x), same);
  }
  // Whatever takes a gradient must be an input of the recomputed function.
  Tensors inputs = {x, call.embedding};
  if (call.frames.bias.defined()) inputs.push_back(call.frames.bias);
  BlockCall rest = call;
  rest.embedding.reset();
  rest.frames.bias.reset();
  const auto whole = [block, rest](const Tensors& given) {
    BlockCall same = rest;
    same.embedding = given[1];
    if (given.size() > 2) same.frames.bias = given[2];
    return Tensors{block(given[0], same)};
  };
  return recompute(whole, inputs, weights)[0];
}

at::Tensor attend_in_images(const KernelChoice& kernels, const at::Tensor& qkv, int64_t heads) {
  const std::vector<at::Tensor> split =
      qkv.reshape({qkv.size(0), qkv.size(1), 3, heads, -1}).permute({2, 0, 3, 1, 4}).unbind();
  return attend(kernels, split[0], split[1], split[2], {}).transpose(1, 2).flatten(2);
}

at::Tensor attend_over_frames(const KernelChoice& kernels, const at::Tensor& qkv, int64_t heads,
                              const FrameContext& context) {
  const int64_t frames = context.frames, pixels = qkv.size(1);
  const std::vector<at::Tensor> split =
      qkv.reshape({qkv.size(0) / frames, frames, pixels, 3, heads, -1})
          .permute({3, 0, 2, 4, 1, 5})
          .unbind();  // [B, H*W, heads, T, width] each
  at::Tensor q = split[0], k = split[1];
  if (context.angles.defined()) {
    q = rotated(q, context.angles);
    k = rotated(k, context.angles);
  }
  return attend(kernels, q, k, split[2], context.logit_bias())
      .permute({0, 3, 1, 2, 4})
      .reshape({qkv.size(0), pixels, qkv.size(2) / 3});
}

LinearAttention::LinearAttention(const Scope& scope, int64_t channels, int64_t heads_,
                                 int64_t width)
    : norm(scope / "norm", channels, false),
      qkv(scope / "qkv", channels, 3 * heads_ * width, false),
      out(scope / "out", heads_ * width, channels),
      heads(heads_) {}

at::Tensor LinearAttention::operator()(const at::Tensor& images) const {
  const int64_t width = out.weight.size(1) / heads;
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const LinearAttentionWeights weights{norm.weight, norm.bias, qkv.weight(), out.weight(),
                                       out.bias,    heads,     scale};
  return as_images(linear_attention(qkv.kernels, as_rows(images), weights), images.size(2));
}

FullAttention::FullAttention(const Scope& scope, int64_t channels, int64_t heads_, int64_t width_)
    : norm(scope / "norm", channels, false),
      qkv(scope / "qkv", channels, 3 * heads_ * width_, false),
      out(scope / "out", heads_ * width_, channels, false),
      heads(heads_),
      width(width_) {}

AttentionWeights FullAttention::kernel_weights() const {
  const std::vector<at::Tensor> maps =
      qkv.weight().split_with_sizes({heads * width, 2 * heads * width});
  AttentionWeights weights;
  weights.norm_weight = norm.weight;
  weights.query = maps[0];
  weights.key_value = maps[1];
  weights.out = out.weight();
  weights.heads = heads;
  weights.scale = 1 / std::sqrt(static_cast<double>(width));
  return weights;
}

at::Tensor FullAttention::in_images(const at::Tensor& images) const {
  const at::Tensor rows = as_rows(images);
  return as_images(attention(qkv.kernels, rows, {rows.size(0), rows.size(1), 1}, kernel_weights()),
                   images.size(2));
}

at::Tensor FullAttention::over_frames(const at::Tensor& images, const FrameContext& context) const {
  const at::Tensor rows = as_rows(images);
  if (!context.same_for_all_clips()) {
    const at::Tensor mixed = attend_over_frames(qkv.kernels, qkv(norm(rows)), heads, context);
    return images + as_images(out(mixed), images.size(2));
  }
  const Sequences sequences{rows.size(0) / context.frames, context.frames, rows.size(1)};
  AttentionWeights weights = kernel_weights();
  context.add_to(weights, sequences.outer);
  return as_images(attention(qkv.kernels, rows, sequences, weights), images.size(2));
}

ResidualAttention::ResidualAttention(const Scope& scope, int64_t channels, int64_t heads_,
                                     int64_t groups, double epsilon)
    : norm(scope / "norm", channels, groups, epsilon),
      qkv(scope / "qkv", channels, 3 * channels),
      out(scope / "out", channels, channels, true, Init::kZeros),
      heads(heads_) {}

at::Tensor ResidualAttention::attended(const at::Tensor& images, const Sequences& sequences,
                                       const FrameContext& context) const {
  const int64_t channels = images.size(1);
  const std::vector<at::Tensor> maps = qkv.weight().split_with_sizes({channels, 2 * channels}),
                                biases = qkv.bias.split_with_sizes({channels, 2 * channels});
  AttentionWeights weights;
  weights.query = maps[0];
  weights.query_bias = biases[0];
  weights.key_value = maps[1];
  weights.key_value_bias = biases[1];
  weights.out = out.weight();
  weights.out_bias = out.bias;
  weights.heads = heads;
  const int64_t width = channels / heads;
  weights.scale = 1 / std::sqrt(static_cast<double>(width));
  context.add_to(weights, sequences.outer);
  const at::Tensor rows = as_rows(images);
  return as_images(attention(qkv.kernels, as_rows(norm(images)), sequences, weights, rows),
                   images.size(2));
}

at::Tensor ResidualAttention::in_images(const at::Tensor& images) const {
  return attended(images, {images.size(0), images.size(2) * images.size(3), 1}, {});
}

at::Tensor ResidualAttention::over_frames(const at::Tensor& images,
                                          const FrameContext& context) const {
  if (context.same_for_all_clips()) {
    return attended(
        images, {images.size(0) / context.frames, context.frames, images.size(2) * images.size(3)},
        context);
  }
  const at::Tensor mixed =
      attend_over_frames(qkv.kernels, qkv(as_rows(norm(images))), heads, context);
  return images + as_images(out(mixed), images.size(2));
}

}  // namespace lf
