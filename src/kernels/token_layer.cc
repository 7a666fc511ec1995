#include "kernels/token_layer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <array>
#include <cmath>
#include <optional>

#include "kernels/cpu/task.h"
#include "kernels/cpu/token_layer_rows.h"
#include "kernels/dispatch.h"
#include "kernels/skinny_matmul.h"
#include "kernels/work.h"

namespace lf {
namespace {

constexpr int64_t kFewest = 4, kMost = 64;

at::Tensor attend(const KernelChoice& kernels, const at::Tensor& x,
                  const TokenLayerWeights& weights, const at::Tensor& mask,
                  const TokenCache* cache) {
  const at::Tensor normal =
      at::layer_norm(x, {x.size(-1)}, weights.norm1_weight, weights.norm1_bias, weights.epsilon);
  std::vector<at::Tensor> qkv;
  for (const at::Tensor& part :
       linear_map(kernels, normal, weights.qkv_weight, weights.qkv_bias).chunk(3, -1)) {
    qkv.push_back(part.unflatten(2, {weights.heads, -1}).transpose(1, 2));
  }
  if (cache != nullptr) {
    const int64_t end = cache->length + x.size(1);
    cache->keys.slice(2, cache->length, end).copy_(qkv[1]);
    cache->values.slice(2, cache->length, end).copy_(qkv[2]);
    qkv[1] = cache->keys.slice(2, 0, end);
    qkv[2] = cache->values.slice(2, 0, end);
  }
  const at::Tensor mixed = at::scaled_dot_product_attention(
      qkv[0], qkv[1], qkv[2], mask.defined() ? std::optional<at::Tensor>(mask) : std::nullopt);
  return linear_map(kernels, mixed.transpose(1, 2).flatten(2), weights.out_weight,
                    weights.out_bias);
}

bool takes(const KernelChoice& kernels, const at::Tensor& x, const TokenLayerWeights& weights,
           const at::Tensor& mask, const TokenCache* cache) {
  return cache != nullptr && !mask.defined() && x.size(1) == 1 && x.size(0) >= kFewest &&
         x.size(0) <= kMost && target_of(kernels, Operation::kTokenLayer, x) != Target::kPlain &&
         x.scalar_type() == at::kFloat && operands_of(wants_bf16(x)) == Operands::kSingle &&
         cache->keys.is_contiguous() && cache->values.is_contiguous() &&
         cache->keys.scalar_type() == at::kFloat &&
         weights.qkv_weight.scalar_type() == at::kFloat && weights.qkv_bias.defined() &&
         !wants_gradient({x, weights.qkv_weight, weights.narrow_weight});
}

}  // namespace

at::Tensor token_layer_reference(const KernelChoice& kernels, const at::Tensor& x,
                                 const TokenLayerWeights& weights, const at::Tensor& mask,
                                 const TokenCache* cache) {
  const at::Tensor h = x + attend(kernels, x, weights, mask, cache);
  const at::Tensor normal =
      at::layer_norm(h, {h.size(-1)}, weights.norm2_weight, weights.norm2_bias, weights.epsilon);
  const at::Tensor wide = linear_map(kernels, normal, weights.wide_weight, weights.wide_bias);
  return h + linear_map(kernels, at::gelu(wide), weights.narrow_weight, weights.narrow_bias);
}

at::Tensor token_layer(const KernelChoice& kernels, const at::Tensor& x,
                       const TokenLayerWeights& weights, const at::Tensor& mask,
                       const TokenCache* cache) {
  if (!takes(kernels, x, weights, mask, cache))
    return token_layer_reference(kernels, x, weights, mask, cache);
  const at::Tensor input = x.contiguous();
  const std::array<at::Tensor, 12> plain = {
      plain_weight(weights.norm1_weight),  plain_weight(weights.norm1_bias),
      plain_weight(weights.qkv_weight),    plain_weight(weights.qkv_bias),
      plain_weight(weights.out_weight),    plain_weight(weights.out_bias),
      plain_weight(weights.norm2_weight),  plain_weight(weights.norm2_bias),
      plain_weight(weights.wide_weight),   plain_weight(weights.wide_bias),
      plain_weight(weights.narrow_weight), plain_weight(weights.narrow_bias)};
  const auto floats = [&](size_t i) { return data_or_null(plain[i]); };
  const auto epsilon = static_cast<float>(weights.epsilon);
  const at::Tensor y = at::empty_like(input);
  TokenLayerTask task{.rows = x.size(0),
                      .width = x.size(2),
                      .hidden = weights.wide_weight.size(0),
                      .heads = weights.heads,
                      .places = cache->keys.size(2),
                      .length = cache->length,
                      .norm1 = {floats(0), floats(1), epsilon},
                      .norm2 = {floats(6), floats(7), epsilon},
                      .qkv = {floats(2), floats(3)},
                      .out = {floats(4), floats(5)},
                      .wide = {floats(8), floats(9)},
                      .narrow = {floats(10), floats(11)},
                      .x = input.const_data_ptr<float>(),
                      .y = y.mutable_data_ptr<float>(),
                      .keys = cache->keys.mutable_data_ptr<float>(),
                      .values = cache->values.mutable_data_ptr<float>()};
  LF_RECORD_WORK("token_layer", task.flops());
  run_token_layer(task, [](int64_t count, const std::function<void(int64_t)>& body) {
    over_threads(count, Operands::kSingle, body);
  });
  return y;
}

}  // namespace lf
