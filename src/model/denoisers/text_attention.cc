#include "model/denoisers/text_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/zeros_like.h>

#include <limits>

#include "kernels/attention.h"

namespace lf {

TextContext text_context(const NoisyClips& clips) {
  if (!clips.text.defined()) return {};
  const at::Tensor padding = (clips.text != 0).any(-1).logical_not();  // [B, L]
  const at::Tensor mask = at::zeros_like(padding, at::kFloat)
                              .masked_fill(padding, -std::numeric_limits<double>::infinity());
  return {at::layer_norm(clips.text, {clips.text.size(-1)}),
          at::constant_pad_nd(mask, {1, 0}).unsqueeze(1).unsqueeze(1)};
}

CrossAttention::CrossAttention(const Scope& scope, int64_t channels, int64_t text_width,
                               int64_t heads_, int64_t width)
    : norm(scope / "norm", channels, false),
      query(scope / "query", channels, heads_ * width, false),
      key_value(scope / "key_value", text_width, 2 * heads_ * width, false),
      out(scope / "out", heads_ * width, channels, false, Init::kZeros),
      heads(heads_) {}

at::Tensor CrossAttention::operator()(const at::Tensor& rows, const TextContext& text) const {
  if (!text.tokens_BLE.defined()) return rows;
  const int64_t clips = text.tokens_BLE.size(0);
  const auto by_head = [&](const at::Tensor& x) {  // [B, heads, tokens, width]
    return x.reshape({clips, -1, heads, x.size(-1) / heads}).transpose(1, 2);
  };
  // A row of zeros, nothing, before the tokens.
  const std::vector<at::Tensor> tokens =
      at::constant_pad_nd(key_value(text.tokens_BLE), {0, 0, 1, 0}).chunk(2, -1);
  const at::Tensor mixed = attend(query.kernels, by_head(query(norm(rows))), by_head(tokens[0]),
                                  by_head(tokens[1]), text.mask);
  return rows + out(mixed.transpose(1, 2).reshape({rows.size(0), rows.size(1), -1}));
}

at::Tensor CrossAttention::in_images(const at::Tensor& images, const TextContext& text) const {
  if (!text.tokens_BLE.defined()) return images;
  return as_images((*this)(as_rows(images), text), images.size(2));
}

}  // namespace lf
