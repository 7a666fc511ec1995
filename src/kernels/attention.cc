#include "kernels/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/tile.h"
#include "kernels/forms.h"
#include "kernels/long_attention.h"
#include "kernels/weights.h"

namespace lf {
namespace {

using at::Tensor;

// On CPU LibTorch's fused kernel overtakes two products and a softmax from here on (measured: at 8
// tokens it takes eight times as long).
constexpr int64_t kFewTokens = 64;

// From here on its backward in bf16 is faster than in single precision (measured on AVX-512
// with bf16 products: at 64 tokens it takes three to six times as long, at 256 about twice).
constexpr int64_t kBf16Tokens = 1024;

// What backward needs besides tensors.
struct Settings : torch::CustomClassHolder {
  bool gpu = false;
  AttentionCall call;  // its weights' tensors are saved by autograd, not here
};

// The tensors of a layer in the order of apply().
constexpr size_t kWeights = 13;
std::array<Tensor AttentionWeights::*, kWeights> in_order() {
  using W = AttentionWeights;
  return {&W::norm_weight,    &W::norm_bias, &W::query,    &W::query_bias,  &W::key_value,
          &W::key_value_bias, &W::out,       &W::out_bias, &W::query_scale, &W::key_scale,
          &W::bias,           &W::mask,      &W::rotary};
}

class Attention : public torch::autograd::Function<Attention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context,
                        const c10::intrusive_ptr<Settings>& settings, const Tensor& x,
                        const Maybe& norm_weight, const Maybe& norm_bias, const Tensor& query,
                        const Maybe& query_bias, const Tensor& key_value,
                        const Maybe& key_value_bias, const Tensor& out, const Maybe& out_bias,
                        const Maybe& query_scale, const Maybe& key_scale, const Maybe& bias,
                        const Maybe& mask, const Maybe& rotary, const Maybe& residual) {
    const auto given = [](const Maybe& maybe) { return maybe.value_or(Tensor()); };
    Tensors saved = {x,
                     given(norm_weight),
                     given(norm_bias),
                     query,
                     given(query_bias),
                     key_value,
                     given(key_value_bias),
                     out,
                     given(out_bias),
                     given(query_scale),
                     given(key_scale),
                     given(bias),
                     given(mask),
                     given(rotary)};
    const AttentionCall call = call_of(*settings, saved);
    const Made made = settings->gpu ? gpu::attention(call, x, given(residual), true)
                                    : cpu::attention(call, x, given(residual), true);
    saved.insert(saved.end(), made.kept.begin(), made.kept.end());
    context->saved_data["settings"] = c10::IValue::make_capsule(settings);
    context->save_for_backward(saved);
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const auto capsule = context->saved_data["settings"].toCapsule();
    const auto& settings = dynamic_cast<const Settings&>(*capsule);
    const AttentionCall call = call_of(settings, saved);
    const Tensors kept(saved.begin() + 1 + kWeights, saved.end());
    const Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const AttentionGradients made = settings.gpu ? gpu::attention_back(call, saved[0], kept, dy)
                                                 : cpu::attention_back(call, saved[0], kept, dy);
    Tensors all = {{}, made.x};
    for (const auto weight : in_order()) all.push_back(made.weights.*weight);
    all.push_back(call.residual ? gradients[0] : Tensor());
    return all;
  }

 private:
  // `saved`: x, then the weights.
  static AttentionCall call_of(const Settings& settings, const Tensors& saved) {
    AttentionCall call = settings.call;
    size_t i = 1;
    for (const auto weight : in_order()) call.weights.*weight = saved[i++];
    return call;
  }
};

// a [heads, n, k] times b [heads, k, m] in single precision, with the same bits on any number of
// threads, which a BLAS does not promise.
Tensor head_products(const Tensor& a, const Tensor& b) {
  const int64_t heads = a.size(0), n = a.size(1), k = a.size(2), m = b.size(2);
  const int64_t wide = padded(m);
  const Tensor left = plain_weight(a);
  const Tensor right = plain_weight(at::constant_pad_nd(b.detach(), {0, wide - m}));
  const Tensor out = at::empty({heads, n, wide}, at::kFloat);
  for (int64_t h = 0; h < heads; ++h) {
    multiply(Operands::kSingle, {left.const_data_ptr<float>() + h * n * k, k},
             {right.const_data_ptr<float>() + h * k * wide, wide},
             {n, wide, k, out.mutable_data_ptr<float>() + h * n * wide, wide, false});
  }
  return out.slice(2, 0, m);
}

class HeadProducts : public torch::autograd::Function<HeadProducts> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& a,
                        const Tensor& b) {
    context->save_for_backward({a, b});
    return head_products(a, b);
  }
  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const Tensor &a = saved[0], &b = saved[1], &gradient = gradients[0];
    return {head_products(gradient, b.transpose(1, 2)).to(a.scalar_type()),
            head_products(a.transpose(1, 2), gradient).to(b.scalar_type())};
  }
};

// Where rows are no wider than a head, attention mixes the rows themselves, and what comes out is
// mapped by value and out at once: a head's [width, width] in the place of two maps of the rows.
AttentionWeights with_plain_values(const AttentionWeights& weights) {
  const int64_t heads = weights.heads, wide = weights.query.size(0), width = weights.query.size(1);
  if (width > wide / heads || weights.key_value_bias.defined()) return weights;
  const std::vector<Tensor> maps = weights.key_value.split_with_sizes({wide, wide});
  const Tensor out = weights.out.unflatten(1, {heads, -1}).transpose(0, 1);  // [heads, width, d]
  AttentionWeights plain = weights;
  plain.key_value = maps[0];
  plain.out =
      HeadProducts::apply(out, maps[1].unflatten(0, {heads, -1})).transpose(0, 1).flatten(1);
  return plain;
}

Tensor linear(const Tensor& rows, const Tensor& weight, const Tensor& bias) {
  return bias.defined() ? at::linear(rows, weight, bias) : at::linear(rows, weight);
}

Tensor direct(const Tensor& x, const Tensor& scale) {
  return x / at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true).clamp_min(1e-12) * scale;
}

// [..., tokens, head width], its first pairs of neighbours rotated.
Tensor rotate(const Tensor& x, const Tensor& rotary) {
  const int64_t rotated = 2 * rotary.size(1);
  const Tensor pairs = x.slice(-1, 0, rotated).unflatten(-1, {-1, 2});
  const Tensor cosine = rotary.select(2, 0), sine = rotary.select(2, 1);
  const Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const Tensor out = at::stack({a * cosine - b * sine, b * cosine + a * sine}, -1).flatten(-2);
  return rotated == x.size(-1) ? out : at::cat({out, x.slice(-1, rotated)}, -1);
}

// LibTorch's fused kernel, which takes batches of one dimension only.
Tensor attend_fused(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                    std::optional<double> scale) {
  const auto batch = [](const Tensor& x) { return x.flatten(0, -4); };
  Maybe mask;
  if (bias.defined()) {
    std::vector<int64_t> sizes = q.sizes().vec();
    sizes.back() = k.size(-2);
    mask = batch(bias.to(q.scalar_type()).expand(sizes));
  }
  return at::scaled_dot_product_attention(batch(q), batch(k), batch(v), mask, 0.0, false, scale)
      .view(q.sizes());
}

}  // namespace

Tensor attend(const KernelChoice& kernels, const Tensor& q, const Tensor& k, const Tensor& v,
              const Tensor& bias, std::optional<double> scale) {
  const int64_t tokens = q.size(-2);
  const double factor = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(-1))));
  if (!bias.defined() && takes_long_attention(kernels, q, k, v))
    return long_attention(q, k, v, factor);
  if (q.is_cuda() || tokens >= kBf16Tokens || (tokens >= kFewTokens && !wants_bf16(v))) {
    return attend_fused(q, k, v, bias, scale);
  }
  if (tokens >= kFewTokens) {
    const c10::impl::ExcludeDispatchKeyGuard single(c10::autocast_dispatch_keyset);
    return attend_fused(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), bias, scale)
        .to(at::kBFloat16);
  }
  Tensor logits = at::matmul(q * factor, k.transpose(-2, -1));
  if (bias.defined()) logits = logits + bias;
  return at::matmul(at::softmax(logits, -1).to(v.scalar_type()), v);
}

Tensor attention_reference(const KernelChoice& kernels, const Tensor& x, const Sequences& sequences,
                           const AttentionWeights& weights, const Tensor& residual) {
  const Tensor rows = x.reshape({sequences.outer, sequences.tokens, sequences.inner, x.size(-1)})
                          .transpose(1, 2)
                          .flatten(0, 1);
  const auto split = [&](const Tensor& flat) {
    return flat.view({rows.size(0), rows.size(1), weights.heads, -1}).transpose(1, 2);
  };
  const Tensor h = weights.norm_weight.defined()
                       ? at::layer_norm(rows, {rows.size(-1)}, weights.norm_weight,
                                        weights.norm_bias, weights.epsilon)
                       : rows;
  const std::vector<Tensor> kv = linear(h, weights.key_value, weights.key_value_bias).chunk(2, -1);
  const Tensor v = split(kv[1]);
  Tensor q = split(linear(h, weights.query, weights.query_bias)), k = split(kv[0]);
  if (weights.query_scale.defined()) {
    q = direct(q, weights.query_scale);
    k = direct(k, weights.key_scale);
  }
  if (weights.rotary.defined()) {
    q = rotate(q, weights.rotary);
    k = rotate(k, weights.rotary);
  }
  Tensor added;
  if (weights.bias.defined()) added = weights.bias.unsqueeze(0);
  if (weights.mask.defined()) {
    const Tensor mask = weights.mask.repeat_interleave(sequences.inner, 0).unsqueeze(1);
    added = added.defined() ? added + mask : mask;
  }
  const Tensor mixed =
      attend(kernels, q.to(v.scalar_type()), k.to(v.scalar_type()), v, added, weights.scale)
          .transpose(1, 2)
          .flatten(2);
  const Tensor y = linear(mixed, weights.out, weights.out_bias)
                       .view({sequences.outer, sequences.inner, sequences.tokens, -1})
                       .transpose(1, 2)
                       .reshape(x.sizes());
  return (residual.defined() ? residual : x) + y;
}

Tensor attention(const KernelChoice& kernels, const Tensor& x, const Sequences& sequences,
                 const AttentionWeights& weights, const Tensor& residual) {
  LF_CHECK(sequences.outer * sequences.tokens * sequences.inner * x.size(-1) == x.numel(),
           "sequences that do not add up to the rows of x");
  const Target target = target_of(kernels, Operation::kAttention, x);
  if (target == Target::kPlain || x.numel() == 0 || sequences.tokens > kMostTokens ||
      (target == Target::kGpu && !gpu::takes_attention(x, sequences, weights))) {
    return attention_reference(kernels, x, sequences, weights, residual);
  }
  const bool on_gpu = target == Target::kGpu;
  const Tensor rows = x.contiguous();
  const Tensor added = residual.defined() ? residual.to(rows.scalar_type()).contiguous() : residual;
  const AttentionWeights w = on_gpu ? weights : with_plain_values(weights);
  AttentionCall call{sequences, w, wants_bf16(rows), residual.defined(),
                     w.bias.defined() && w.bias.requires_grad()};
  if (!wants_gradient({x, w.norm_weight, w.norm_bias, w.query, w.query_bias, w.key_value,
                       w.key_value_bias, w.out, w.out_bias, w.query_scale, w.key_scale, w.bias,
                       added})) {
    return (on_gpu ? gpu::attention(call, rows, added, false)
                   : cpu::attention(call, rows, added, false))
        .y;
  }
  const auto settings = c10::make_intrusive<Settings>();
  settings->gpu = on_gpu;
  settings->call = call;
  for (const auto weight : in_order()) settings->call.weights.*weight = Tensor();
  return Attention::apply(settings, rows, Maybe(w.norm_weight), Maybe(w.norm_bias), w.query,
                          Maybe(w.query_bias), w.key_value, Maybe(w.key_value_bias), w.out,
                          Maybe(w.out_bias), Maybe(w.query_scale), Maybe(w.key_scale),
                          Maybe(w.bias), Maybe(w.mask), Maybe(w.rotary), Maybe(added));
}

}  // namespace lf
