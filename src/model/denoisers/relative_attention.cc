#include "model/denoisers/relative_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <cmath>

namespace lf {

at::Tensor frame_offsets(const at::Tensor& index_BT) {
  const at::Tensor offset = index_BT.unsqueeze(2) - index_BT.unsqueeze(1);
  return at::stack({at::log1p(offset.clamp_min(0).to(at::kFloat)),
                    at::log1p((-offset).clamp_min(0).to(at::kFloat)), (offset == 0).to(at::kFloat)},
                   -1);
}

RelativeCode::RelativeCode(const Scope& scope, int64_t channels, int64_t level_width,
                           int64_t heads_)
    : distance(scope / "distance", 3, channels),
      level(scope / "level", level_width, channels),
      out(scope / "out", channels, channels, true, Init::kZeros),
      heads(heads_) {}

at::Tensor RelativeCode::operator()(const at::Tensor& offset_BTT,
                                    const at::Tensor& level_BTE) const {
  const at::Tensor code = out(at::silu(distance(offset_BTT) + level(level_BTE).unsqueeze(2)));
  return code.unflatten(-1, {heads, -1}).permute({0, 3, 1, 2, 4});
}

RelativeAttention::RelativeAttention(const Scope& scope, int64_t channels, int64_t level_width,
                                     int64_t heads_)
    : norm(scope / "norm", channels),
      qkv(scope / "qkv", channels, 3 * channels),
      out(scope / "out", channels, channels, true, Init::kZeros),
      query_code(scope / "query_code", channels, level_width, heads_),
      key_code(scope / "key_code", channels, level_width, heads_),
      value_code(scope / "value_code", channels, level_width, heads_),
      heads(heads_) {}

// With P pixels, T frames and scaled queries, for frames i and j:
//   logit_ij = q_i k_j + q_i K_ij + k_j Q_ji / sqrt(width),   out_i = sum_j p_ij (v_j + V_ij).
// The codes are the same for all pixels, so each term with them is one product a frame.
at::Tensor RelativeAttention::operator()(const at::Tensor& images, const BlockCall& call) const {
  const int64_t frames = call.frames.frames, height = images.size(2);
  const at::Tensor level_BTE = call.embedding.unflatten(0, {-1, frames});
  const at::Tensor& offsets = call.frames.offsets;
  const at::Tensor parts = qkv(as_rows(norm(images)))
                               .unflatten(0, {-1, frames})
                               .unflatten(-1, {3, heads, -1})
                               .permute({3, 0, 4, 1, 2, 5});  // [3, B, heads, T, P, width]
  const double scale = 1 / std::sqrt(static_cast<double>(parts.size(-1)));
  const at::Tensor q = parts[0] * scale, k = parts[1], v = parts[2];

  const auto by_pixel = [](const at::Tensor& x) { return x.transpose(2, 3); };  // [B, h, P, T, .]
  at::Tensor logits = at::matmul(by_pixel(q), by_pixel(k).transpose(-2, -1));   // [B, h, P, i, j]
  const at::Tensor of_keys = at::matmul(q, key_code(offsets, level_BTE).transpose(-2, -1));
  const at::Tensor of_queries =  // [B, h, j, P, i]
      at::matmul(k * scale, query_code(offsets, level_BTE).transpose(-2, -1));
  logits = logits + by_pixel(of_keys) + of_queries.permute({0, 1, 3, 4, 2});
  const at::Tensor bias = call.frames.logit_bias();
  if (bias.defined()) logits = logits + bias.transpose(1, 2);
  const at::Tensor p = at::softmax(logits, -1).to(v.scalar_type());

  const at::Tensor of_values = at::matmul(by_pixel(p), value_code(offsets, level_BTE));
  const at::Tensor mixed = at::matmul(p, by_pixel(v)) + by_pixel(of_values);  // [B, h, P, T, width]
  const at::Tensor rows = mixed.permute({0, 3, 2, 1, 4}).flatten(3).flatten(0, 1);
  return images + as_images(out(rows), height);
}

}  // namespace lf
