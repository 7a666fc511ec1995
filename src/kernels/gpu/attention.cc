// attention() on a GPU, see device_forms.h: norm, one product for queries, keys and values,
// attention where the rows lie, product, residual.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/chunk_sums.h"
#include "kernels/dispatch.h"
#include "kernels/gpu/device.h"
#include "kernels/gpu/forms.h"
#include "kernels/gpu/rows.h"
#include "kernels/work.h"

namespace lf {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;  // a weight that a layer may do without
using Tensors = std::vector<Tensor>;

// What backward needs besides tensors.
struct Kept : torch::CustomClassHolder {
  Sequences sequences{};
  int64_t heads = 1;
  double scale = 1, epsilon = 0;
  bool query_bias = false, key_value_bias = false, out_bias = false, bias_gradient = false;
  bool residual = false;
};

// A task over tensors, which it keeps alive; maps are given later.
struct Call {
  Call(const Sequences& sequences, int64_t heads, double scale, int64_t wide,
       const Tensor& given_query_scale, const Tensor& given_key_scale, const Tensor& given_bias,
       const Tensor& given_mask, const Tensor& given_rotary)
      : query_scale(plain_weight(given_query_scale)),
        key_scale(plain_weight(given_key_scale)),
        bias(plain_weight(given_bias)),
        mask(plain_weight(given_mask)),
        rotary(plain_weight(given_rotary)) {
    task.outer = sequences.outer;
    task.tokens = sequences.tokens;
    task.inner = sequences.inner;
    task.heads = heads;
    task.head_width = wide / heads;
    task.scale = static_cast<float>(scale);
    task.query_scale = data_or_null(query_scale);
    task.key_scale = data_or_null(key_scale);
    task.bias = data_or_null(bias);
    task.mask = data_or_null(mask);
    task.rotary = data_or_null(rotary);
    task.pairs = rotary.defined() ? rotary.size(1) : 0;
  }
  Tensor query_scale, key_scale, bias, mask, rotary;
  DeviceAttention task;
};

// One row of weights or biases after the other; a bias that only one of them has is zero elsewhere.
Tensor joined(const Tensor& query, const Tensor& key_value, int64_t wide, const Tensor& like) {
  if (!query.defined() && !key_value.defined()) return {};
  const auto or_zero = [&](const Tensor& given, int64_t size) {
    return given.defined() ? given.to(like.scalar_type()) : at::zeros({size}, like.options());
  };
  return at::cat({or_zero(query, wide), or_zero(key_value, 2 * wide)});
}

struct Made {
  Tensor y, maps, mixed, in, out;  // the weights as the products had them
};

int64_t flops_of(const Sequences& s, int64_t width, int64_t wide) {
  return 2 * s.outer * s.inner * s.tokens * wide * (4 * width + 2 * s.tokens);
}

// Rows that come normed are only cast.
Tensor normed(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
              at::ScalarType type) {
  if (!weight.defined()) return x.to(type);
  return device_layer_norm(x, plain_weight(weight), plain_weight(bias), epsilon, type);
}

// x and residual are [rows, width].
Made forward_of(const Tensor& x, const Tensor& residual, const Sequences& sequences,
                const AttentionWeights& weights) {
  const at::ScalarType type = product_type(x);
  const int64_t wide = weights.query.size(0);
  LF_RECORD_WORK("attention", flops_of(sequences, x.size(-1), wide));
  Call call(sequences, weights.heads, weights.scale, wide, weights.query_scale, weights.key_scale,
            weights.bias, weights.mask, weights.rotary);
  Made made;
  made.in = at::cat({weights.query, weights.key_value}).to(type);
  made.out = weights.out.to(type);
  const Tensor normal = normed(x, weights.norm_weight, weights.norm_bias, weights.epsilon, type);
  made.maps = device_linear(normal, made.in,
                            joined(weights.query_bias, weights.key_value_bias, wide, normal));
  made.mixed = at::empty({x.size(0), wide}, normal.options());
  call.task.maps = data_of(made.maps);
  call.task.mixed = result_of(made.mixed);
  device_operations()->attention(call.task);
  made.y =
      device_add_residual(residual.defined() ? residual : x,
                          device_linear(made.mixed, made.out, {}), plain_weight(weights.out_bias));
  return made;
}

class DeviceAttentionLayer : public torch::autograd::Function<DeviceAttentionLayer> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context,
                        const c10::intrusive_ptr<Kept>& kept, const Tensor& x,
                        const Maybe& norm_weight, const Maybe& norm_bias, const Tensor& query,
                        const Maybe& query_bias, const Tensor& key_value,
                        const Maybe& key_value_bias, const Tensor& out, const Maybe& out_bias,
                        const Maybe& query_scale, const Maybe& key_scale, const Maybe& bias,
                        const Maybe& mask, const Maybe& rotary, const Maybe& residual) {
    const auto given = [](const Maybe& maybe) { return maybe.value_or(Tensor()); };
    const Made made = forward_of(
        x, given(residual), kept->sequences,
        {given(norm_weight), given(norm_bias), query, given(query_bias), key_value,
         given(key_value_bias), out, given(out_bias), given(query_scale), given(key_scale),
         given(bias), given(mask), given(rotary), kept->heads, kept->scale, kept->epsilon});
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->save_for_backward({x, given(norm_weight), given(norm_bias), made.in, made.out,
                                made.maps, made.mixed, given(query_scale), given(key_scale),
                                given(bias), given(mask), given(rotary)});
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const NoAutocast as_they_are;
    const Tensors saved = context->get_saved_variables();
    const auto capsule = context->saved_data["kept"].toCapsule();
    const auto& kept = dynamic_cast<const Kept&>(*capsule);
    const Tensor &x = saved[0], &in = saved[3], &out = saved[4], &maps = saved[5],
                 &mixed = saved[6];
    const int64_t wide = mixed.size(1);
    LF_RECORD_WORK("attention_backward", 2 * flops_of(kept.sequences, x.size(-1), wide));
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const Tensor dy_half = dy.to(maps.scalar_type());
    Call call(kept.sequences, kept.heads, kept.scale, wide, saved[7], saved[8], saved[9], saved[10],
              saved[11]);
    const Sums sums(call.task, maps, kept.bias_gradient);
    const Tensor d_mixed = at::mm(dy_half, out), d_maps = at::empty_like(maps);
    call.task.maps = data_of(maps);
    call.task.d_mixed = data_of(d_mixed);
    call.task.d_maps = result_of(d_maps);
    device_operations()->attention_back(call.task);
    const Tensor normal = normed(x, saved[1], saved[2], kept.epsilon, maps.scalar_type());
    const LayerNormSlopes norm = norm_back(x, saved[1], saved[2], kept.epsilon, at::mm(d_maps, in),
                                           kept.residual ? Tensor() : dy);
    const Tensor d_in = weight_slopes(d_maps, normal);
    const Tensor d_bias = bias_slopes(d_maps, kept.query_bias || kept.key_value_bias);
    const auto part = [](bool wanted, const Tensor& rows, int64_t from, int64_t to) {
      return wanted ? rows.slice(0, from, to) : Tensor();
    };
    const Tensor scales = sums.of_scales();
    return {{},
            norm.dx,
            norm.weight,
            norm.bias,
            d_in.slice(0, 0, wide),
            part(kept.query_bias, d_bias, 0, wide),
            d_in.slice(0, wide),
            part(kept.key_value_bias, d_bias, wide, 3 * wide),
            weight_slopes(dy_half, mixed),
            bias_slopes(dy, kept.out_bias),
            scales.defined() ? scales.select(0, 0) : Tensor(),
            scales.defined() ? scales.select(0, 1) : Tensor(),
            sums.of_bias(),
            {},
            {},
            kept.residual ? dy : Tensor()};
  }

 private:
  // `added` comes to x past the norm; undefined for nothing.
  static LayerNormSlopes norm_back(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                   double epsilon, const Tensor& d_normal, const Tensor& added) {
    if (weight.defined()) {
      return device_layer_norm_back(x, plain_weight(weight), plain_weight(bias), epsilon, d_normal,
                                    added);
    }
    const Tensor dx = d_normal.to(x.scalar_type());
    return {added.defined() ? dx + added : dx, {}, {}};
  }

  // The parts of slopes that the kernel leaves.
  class Sums {
   public:
    Sums(DeviceAttention& task, const Tensor& maps, bool bias_gradient) {
      const at::TensorOptions options = maps.options().dtype(at::kFloat);
      if (task.query_scale != nullptr) {
        scales_ = at::empty({task.chunks() * task.heads, 2, task.head_width}, options);
        task.scale_sums = scales_.mutable_data_ptr<float>();
      }
      if (bias_gradient) {
        bias_ = at::empty({task.chunks(), task.heads, task.tokens, task.tokens}, options);
        task.bias_sums = bias_.mutable_data_ptr<float>();
      }
    }
    Tensor of_scales() const { return scales_.defined() ? scales_.sum(0) : Tensor(); }
    Tensor of_bias() const { return bias_.defined() ? bias_.sum(0) : Tensor(); }

   private:
    Tensor scales_, bias_;
  };
};

}  // namespace

bool device_takes_attention(const Tensor& x, const Sequences& sequences,
                            const AttentionWeights& weights) {
  if (!device_takes_rows(x)) return false;
  DeviceAttention task;
  task.outer = sequences.outer;
  task.tokens = sequences.tokens;
  task.inner = sequences.inner;
  task.heads = weights.heads;
  task.head_width = weights.query.size(0) / weights.heads;
  return device_operations()->takes_attention(task);
}

Tensor device_attention(const Tensor& x, const Sequences& sequences,
                        const AttentionWeights& weights, const Tensor& residual) {
  const AttentionWeights& w = weights;
  const Tensor rows = x.view({-1, x.size(-1)});
  Tensor added;
  if (residual.defined()) added = residual.to(x.scalar_type()).contiguous().view(rows.sizes());
  if (!wants_gradient({x, w.norm_weight, w.norm_bias, w.query, w.query_bias, w.key_value,
                       w.key_value_bias, w.out, w.out_bias, w.query_scale, w.key_scale, w.bias,
                       added})) {
    return forward_of(rows, added, sequences, weights).y.view(x.sizes());
  }
  const auto kept = c10::make_intrusive<Kept>();
  kept->sequences = sequences;
  kept->heads = w.heads;
  kept->scale = w.scale;
  kept->epsilon = w.epsilon;
  kept->query_bias = w.query_bias.defined();
  kept->key_value_bias = w.key_value_bias.defined();
  kept->out_bias = w.out_bias.defined();
  kept->bias_gradient = w.bias.defined() && w.bias.requires_grad();
  kept->residual = added.defined();
  return DeviceAttentionLayer::apply(
             kept, rows, Maybe(w.norm_weight), Maybe(w.norm_bias), w.query, Maybe(w.query_bias),
             w.key_value, Maybe(w.key_value_bias), w.out, Maybe(w.out_bias), Maybe(w.query_scale),
             Maybe(w.key_scale), Maybe(w.bias), Maybe(w.mask), Maybe(w.rotary), Maybe(added))
      .view(x.sizes());
}

}  // namespace lf
