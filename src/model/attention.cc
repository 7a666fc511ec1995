#include "model/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/alias.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

namespace lf {
namespace {

constexpr int64_t kDistances = 32;
constexpr double kFarthest = 32;  // frames; farther ones are alike
// On CPU the fused kernel overtakes two products and a softmax from here on (measured: at 8 tokens
// it takes eight times as long).
constexpr int64_t kFewTokens = 64;

// Half of the ranges are for each direction; half of those are single frames, the others grow by
// equal factors.
at::Tensor distance_range(const at::Tensor& behind) {
  constexpr int64_t kSide = kDistances / 2, kSingle = kSide / 2;
  const at::Tensor distance = behind.abs();
  const at::Tensor far =
      kSingle +
      ((distance.clamp_min(1).to(at::kFloat) / static_cast<double>(kSingle)).log() *
       (static_cast<double>(kSide - kSingle) / std::log(kFarthest / static_cast<double>(kSingle))))
          .to(at::kLong)
          .clamp_max(kSide - kSingle - 1);
  return at::where(distance < kSingle, distance, far) + (behind < 0).to(at::kLong) * kSide;
}

// 0 where frame i sees frame j, -inf elsewhere: those of the video each other, all others
// themselves alone. [B, 1, 1, T, T]
at::Tensor blindness(const at::Tensor& role_BT) {
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

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& bias) {
  if (q.size(-2) >= kFewTokens || q.is_cuda()) {
    // The fused kernels take batches of one dimension only.
    const auto batch = [](const at::Tensor& x) { return x.flatten(0, -4); };
    std::optional<at::Tensor> mask;
    if (bias.defined()) {
      std::vector<int64_t> sizes = q.sizes().vec();
      sizes.back() = k.size(-2);
      mask = batch(bias.to(q.scalar_type()).expand(sizes));
    }
    return at::scaled_dot_product_attention(batch(q), batch(k), batch(v), mask).view(q.sizes());
  }
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  at::Tensor logits = at::matmul(q * scale, k.transpose(-2, -1));
  if (bias.defined()) logits = logits + bias;
  return at::matmul(at::softmax(logits, -1).to(v.scalar_type()), v);
}

DistanceBias::DistanceBias(const Scope& scope, int64_t heads)
    : weight(scope.weight("weight", {kDistances, heads}, Init::kNormal)) {}

at::Tensor DistanceBias::operator()(const at::Tensor& index_BT) const {
  const at::Tensor behind = index_BT.unsqueeze(2) - index_BT.unsqueeze(1);  // query minus key
  return at::embedding(weight, distance_range(behind)).permute({0, 3, 1, 2}).unsqueeze(1);
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
  const at::Tensor turned = x.slice(-1, 0, width), cos = angles.cos().to(x.scalar_type()),
                   sin = angles.sin().to(x.scalar_type());
  const at::Tensor even = turned.slice(-1, 0, width, 2), odd = turned.slice(-1, 1, width, 2);
  const at::Tensor pairs =
      at::stack({even * cos - odd * sin, odd * cos + even * sin}, -1).flatten(-2);
  return width == x.size(-1) ? pairs : at::cat({pairs, x.slice(-1, width)}, -1);
}

FrameContext frame_context(const NoisyClips& clips, const std::optional<DistanceBias>& distances,
                           const std::optional<Rotary>& rotary) {
  FrameContext context;
  context.frames = clips.frames();
  if (distances) context.bias = (*distances)(clips.index_BT);
  if (rotary) context.angles = rotary->angles(clips.index_BT);
  if (clips.role_BT.defined()) {
    const at::Tensor blind = blindness(clips.role_BT);
    context.bias = context.bias.defined() ? context.bias + blind : blind;
  }
  return context;
}

at::Tensor run_block(const NetworkBlock& block, const Tensors& weights, const at::Tensor& x,
                     const BlockCall& call, bool again) {
  if (!again) {
    // In by one door here too: gradients then add up in the same order, to the bit.
    const auto once = [](const at::Tensor& t) { return t.defined() ? at::alias(t) : t; };
    BlockCall same = call;
    same.embedding = once(call.embedding);
    same.frames.bias = once(call.frames.bias);
    return block(once(x), same);
  }
  // Whatever takes a gradient goes in by the front door.
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

at::Tensor attend_in_images(const at::Tensor& qkv, int64_t heads) {
  const at::Tensor split =
      qkv.reshape({qkv.size(0), qkv.size(1), 3, heads, -1}).permute({2, 0, 3, 1, 4});
  return attend(split[0], split[1], split[2], {}).transpose(1, 2).flatten(2);
}

at::Tensor attend_over_frames(const at::Tensor& qkv, int64_t heads, const FrameContext& context) {
  const int64_t frames = context.frames, places = qkv.size(1);
  const at::Tensor split = qkv.reshape({qkv.size(0) / frames, frames, places, 3, heads, -1})
                               .permute({3, 0, 2, 4, 1, 5});  // [3, B, H*W, heads, T, width]
  at::Tensor q = split[0], k = split[1];
  if (context.angles.defined()) {
    q = rotated(q, context.angles);
    k = rotated(k, context.angles);
  }
  return attend(q, k, split[2], context.bias)
      .permute({0, 3, 1, 2, 4})
      .reshape({qkv.size(0), places, qkv.size(2) / 3});
}

LinearAttention::LinearAttention(const Scope& scope, int64_t channels, int64_t heads_,
                                 int64_t width)
    : norm(scope / "norm", channels, false),
      qkv(scope / "qkv", channels, 3 * heads_ * width, false),
      out(scope / "out", heads_ * width, channels),
      heads(heads_) {}

at::Tensor LinearAttention::operator()(const at::Tensor& images) const {
  const at::Tensor rows = qkv(norm(as_rows(images)));
  const at::Tensor split = rows.reshape({rows.size(0), rows.size(1), 3, heads, -1})
                               .permute({2, 0, 3, 1, 4});  // [3, N, heads, H*W, width]
  const double scale = 1 / std::sqrt(static_cast<double>(split.size(-1)));
  const at::Tensor q = at::softmax(split[0], -1) * scale, k = at::softmax(split[1], -2);
  const at::Tensor found = at::matmul(k.transpose(-2, -1), split[2]);
  const at::Tensor mixed = at::matmul(q.to(found.scalar_type()), found);
  return images + as_images(out(mixed.transpose(1, 2).flatten(2)), images.size(2));
}

ResidualAttention::ResidualAttention(const Scope& scope, int64_t channels, int64_t heads_)
    : norm(scope / "norm", channels),
      qkv(scope / "qkv", channels, 3 * channels),
      out(scope / "out", channels, channels, true, Init::kZeros),
      heads(heads_) {}

at::Tensor ResidualAttention::in_images(const at::Tensor& images) const {
  const at::Tensor mixed = attend_in_images(qkv(as_rows(norm(images))), heads);
  return images + as_images(out(mixed), images.size(2));
}

at::Tensor ResidualAttention::over_frames(const at::Tensor& images,
                                          const FrameContext& context) const {
  const at::Tensor mixed = attend_over_frames(qkv(as_rows(norm(images))), heads, context);
  return images + as_images(out(mixed), images.size(2));
}

}  // namespace lf
