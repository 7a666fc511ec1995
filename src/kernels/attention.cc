#include "kernels/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "base/error.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/chunk_sums.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/forms.h"
#include "kernels/long_attention.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;  // a weight that a layer may do without
using Tensors = std::vector<Tensor>;

// Larger ones are computed again in backward.
constexpr int64_t kMostKept = int64_t{64} << 20;  // floats

// Keeping queries, keys and values costs their way through memory, computing them again the
// products; in single precision and from this width on the products cost more.
constexpr int64_t kKeptWidth = 64;

// On CPU LibTorch's fused kernel overtakes two products and a softmax from here on (measured: at 8
// tokens it takes eight times as long).
constexpr int64_t kFewTokens = 64;

// From here on its backward in bfloat16 is faster than in single precision (measured on AVX-512
// with bfloat16 products: at 64 tokens it takes three to six times as long, at 256 about twice).
constexpr int64_t kHalfTokens = 1024;

// A task over tensors, which it keeps alive.
struct Call {
  Call(const Tensor& x, const Sequences& sequences, const AttentionWeights& weights,
       Operands operands)
      : norm_weight(plain_weight(weights.norm_weight)),
        norm_bias(plain_weight(weights.norm_bias)),
        query(plain_weight(weights.query)),
        query_bias(plain_weight(weights.query_bias)),
        key_value(plain_weight(weights.key_value)),
        key_value_bias(plain_weight(weights.key_value_bias)),
        out(plain_weight(weights.out)),
        out_bias(plain_weight(weights.out_bias)),
        query_scale(plain_weight(weights.query_scale)),
        key_scale(plain_weight(weights.key_scale)),
        bias(plain_weight(weights.bias)),
        mask(plain_weight(weights.mask)),
        rotary(plain_weight(weights.rotary)) {
    task.outer = sequences.outer;
    task.tokens = sequences.tokens;
    task.inner = sequences.inner;
    task.width = x.size(-1);
    task.heads = weights.heads;
    task.head_width = query.size(0) / weights.heads;
    task.half_rows = x.scalar_type() == at::kBFloat16;
    task.operands = operands;
    task.norm = {data_or_null(norm_weight), data_or_null(norm_bias),
                 static_cast<float>(weights.epsilon)};
    task.query = left_of(query, operands, copies);
    task.key = left_of(key_value.slice(0, 0, task.wide()), operands, copies);
    task.plain_values = key_value.size(0) == task.wide();
    if (!task.plain_values) {
      task.value = left_of(key_value.slice(0, task.wide()), operands, copies);
    }
    task.out = left_of(out, operands, copies);
    task.query_bias = data_or_null(query_bias);
    task.key_value_bias = data_or_null(key_value_bias);
    task.out_bias = data_or_null(out_bias);
    task.query_scale = data_or_null(query_scale);
    task.key_scale = data_or_null(key_scale);
    task.bias = data_or_null(bias);
    task.mask = data_or_null(mask);
    task.rotary = data_or_null(rotary);
    task.pairs = rotary.defined() ? rotary.size(1) : 0;
    task.scale = static_cast<float>(weights.scale);
    task.x = x.const_data_ptr();
  }

  void prepare_back() {
    task.query_back = turned_left_of(query, task.operands, copies);
    task.key_back = turned_left_of(key_value.slice(0, 0, task.wide()), task.operands, copies);
    if (!task.plain_values) {
      task.value_back = turned_left_of(key_value.slice(0, task.wide()), task.operands, copies);
    }
    task.out_back = turned_left_of(out, task.operands, copies);
  }

  Tensor norm_weight, norm_bias, query, query_bias, key_value, key_value_bias, out, out_bias,
      query_scale, key_scale, bias, mask, rotary;
  Tensors copies;
  AttentionTask task{};
};

Tensor forward_of(Call& call, const Tensor& x, const Tensor& residual, const Tensor& kept) {
  Tensor y = at::empty_like(x);
  AttentionTask& task = call.task;
  task.residual = residual.defined() ? residual.const_data_ptr() : nullptr;
  task.y = y.mutable_data_ptr();
  task.kept = kept.defined() ? kept.mutable_data_ptr<float>() : nullptr;
  LF_RECORD_WORK("attention", task.flops());
  over_threads(task.tiles(), task.operands, [&](int64_t tile) { attention_tile(task, tile); });
  return y;
}

// What backward needs besides tensors.
struct Kept : torch::CustomClassHolder {
  Sequences sequences{};
  int64_t heads = 1;
  double scale = 1, epsilon = 0;
  Operands operands = Operands::kSingle;
  bool bias_gradient = false, residual = false;
};

// The tensors of a layer in the order of apply(), after x.
AttentionWeights weights_of(const Tensors& saved, const Kept& kept) {
  return {saved[1],  saved[2],   saved[3],   saved[4],    saved[5],  saved[6],
          saved[7],  saved[8],   saved[9],   saved[10],   saved[11], saved[12],
          saved[13], kept.heads, kept.scale, kept.epsilon};
}

class Attention : public torch::autograd::Function<Attention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context,
                        const c10::intrusive_ptr<Kept>& kept, const Tensor& x,
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
    Call call(x, kept->sequences, weights_of(saved, *kept), kept->operands);
    Tensor mapped;
    if (kept->operands == Operands::kSingle && call.task.width >= kKeptWidth &&
        call.task.kept_size() <= kMostKept) {
      mapped = at::empty({call.task.kept_size()}, at::kFloat);
    }
    saved.push_back(mapped);
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->save_for_backward(saved);
    return forward_of(call, x, given(residual), mapped);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    const auto capsule = context->saved_data["kept"].toCapsule();
    const auto& kept = dynamic_cast<const Kept&>(*capsule);
    Call call(saved[0], kept.sequences, weights_of(saved, kept), kept.operands);
    call.prepare_back();
    AttentionTask& task = call.task;
    const Tensor dy = gradients[0].to(saved[0].scalar_type()).contiguous();
    const Tensor dx = at::empty_like(saved[0]);
    task.bias_gradient = kept.bias_gradient;
    if (kept.residual) task.residual = dy.const_data_ptr();
    task.dy = dy.const_data_ptr();
    task.dx = dx.mutable_data_ptr();
    task.kept = saved[14].defined() ? saved[14].mutable_data_ptr<float>() : nullptr;
    LF_RECORD_WORK("attention_backward", 2 * task.flops());
    const ChunkSums sums(task.chunks(), task.sums_size());
    task.sums = sums.data();
    over_threads(task.chunks(), task.operands,
                 [&](int64_t chunk) { attention_chunk_back(task, chunk); });
    Tensors all = gradients_of(task, saved, dx, sums);
    if (kept.residual) all.back() = gradients[0];
    return all;
  }

 private:
  static Tensors gradients_of(const AttentionTask& task, const Tensors& saved, const Tensor& dx,
                              const ChunkSums& sums) {
    const auto lanes = [&](size_t which, int64_t at) {
      return saved[which].defined() ? sums.lanes(at, saved[which].numel()) : Tensor();
    };
    const int64_t wide = task.wide();
    Tensor bias;
    if (task.bias_gradient) {
      bias = sums.plain(task.bias_sums(), task.heads * task.tokens * task.tokens)
                 .view({task.heads, task.tokens, task.tokens});
    }
    return {{},
            dx,
            lanes(1, task.norm_sums()),
            lanes(2, task.norm_bias_sums()),
            sums.matrix(task.map_sums(), wide, task.width),
            lanes(4, task.map_bias_sums()),
            sums.matrix(task.map_sums() + wide * padded(task.width), (task.maps() - 1) * wide,
                        task.width),
            lanes(6, task.map_bias_sums() + wide * kLanes),
            sums.turned(task.out_sums(), task.mixed(), task.width),
            lanes(8, task.out_bias_sums()),
            lanes(9, task.query_scale_sums()),
            lanes(10, task.key_scale_sums()),
            bias,
            {},
            {},
            {}};
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
    const Tensor &a = saved[0], &b = saved[1], &slope = gradients[0];
    return {head_products(slope, b.transpose(1, 2)).to(a.scalar_type()),
            head_products(a.transpose(1, 2), slope).to(b.scalar_type())};
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

// [..., tokens, head width], its first pairs of neighbours turned.
Tensor rotate(const Tensor& x, const Tensor& rotary) {
  const int64_t turned = 2 * rotary.size(1);
  const Tensor pairs = x.slice(-1, 0, turned).unflatten(-1, {-1, 2});
  const Tensor cosine = rotary.select(2, 0), sine = rotary.select(2, 1);
  const Tensor a = pairs.select(-1, 0), b = pairs.select(-1, 1);
  const Tensor out = at::stack({a * cosine - b * sine, b * cosine + a * sine}, -1).flatten(-2);
  return turned == x.size(-1) ? out : at::cat({out, x.slice(-1, turned)}, -1);
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
  if (q.is_cuda() || tokens >= kHalfTokens || (tokens >= kFewTokens && !wants_bfloat16(v))) {
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
  if (target == Target::kPlain || x.numel() == 0 || sequences.tokens > kMostTokens) {
    return attention_reference(kernels, x, sequences, weights, residual);
  }
  if (target == Target::kGpu) {
    return device_takes_attention(x, sequences, weights)
               ? device_attention(x.contiguous(), sequences, weights, residual)
               : attention_reference(kernels, x, sequences, weights, residual);
  }
  const Tensor rows = x.contiguous();
  const AttentionWeights w = with_plain_values(weights);
  const auto kept = c10::make_intrusive<Kept>();
  kept->sequences = sequences;
  kept->heads = w.heads;
  kept->scale = w.scale;
  kept->epsilon = w.epsilon;
  kept->operands = operands_for(rows);
  kept->bias_gradient = w.bias.defined() && w.bias.requires_grad();
  kept->residual = residual.defined();
  const Tensor added = residual.defined() ? residual.to(rows.scalar_type()).contiguous() : residual;
  if (wants_gradient({x, w.norm_weight, w.norm_bias, w.query, w.query_bias, w.key_value,
                      w.key_value_bias, w.out, w.out_bias, w.query_scale, w.key_scale, w.bias,
                      added})) {
    return Attention::apply(kept, rows, Maybe(w.norm_weight), Maybe(w.norm_bias), w.query,
                            Maybe(w.query_bias), w.key_value, Maybe(w.key_value_bias), w.out,
                            Maybe(w.out_bias), Maybe(w.query_scale), Maybe(w.key_scale),
                            Maybe(w.bias), Maybe(w.mask), Maybe(w.rotary), Maybe(added));
  }
  Call call(rows, sequences, w, kept->operands);
  return forward_of(call, rows, added, {});
}

}  // namespace lf
