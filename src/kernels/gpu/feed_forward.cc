// feed_forward() on a GPU, see device_forms.h: norm, product, activation, product, residual.
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
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

DeviceActivation activation_of(const Tensor& h, bool gated) {
  DeviceActivation task;
  task.hidden = gated ? h.size(-1) / 2 : h.size(-1);
  task.rows = h.numel() / h.size(-1);
  task.gated = gated;
  task.h = data_of(h);
  return task;
}

Tensor hidden_of(const Tensor& h, const DeviceActivation& task) {
  return at::empty({task.rows, task.hidden}, h.options());
}

// Products are much faster over rows that begin at multiples of 16 bytes, which a hidden width of
// 8/3 of the width does not give. Hidden numbers that are added are zero.
int64_t with_padding(int64_t hidden) { return (hidden + 7) / 8 * 8; }

// Rows (or numbers) of the map in, each half padded; and back.
Tensor padded_maps(const Tensor& maps, int64_t hidden) {
  const int64_t more = with_padding(hidden) - hidden;
  if (!maps.defined() || more == 0) return maps;
  const Tensor halves = maps.unflatten(0, {-1, hidden});
  return (maps.dim() == 1 ? at::constant_pad_nd(halves, {0, more})
                          : at::constant_pad_nd(halves, {0, 0, 0, more}))
      .flatten(0, 1);
}
Tensor without_padding(const Tensor& maps, int64_t hidden) {
  if (!maps.defined() || with_padding(hidden) == hidden) return maps;
  return maps.unflatten(0, {-1, with_padding(hidden)}).slice(1, 0, hidden).flatten(0, 1);
}

struct Made {
  Tensor y, h, in, out;  // the weights as the products had them
};

// x is [rows, width].
Made forward_of(const Tensor& x, const FeedForwardWeights& weights) {
  const at::ScalarType type = product_type(x);
  LF_RECORD_WORK("feed_forward",
                 2 * (x.numel() / x.size(-1)) * (weights.in.numel() + weights.out.numel()));
  Made made;
  const int64_t hidden = weights.out.size(1);
  made.in = padded_maps(weights.in.to(type), hidden);
  made.out = weights.out.to(type);
  if (const int64_t more = with_padding(hidden) - hidden; more > 0) {
    made.out = at::constant_pad_nd(made.out, {0, more});
  }
  const Tensor normal = device_layer_norm(x, plain_weight(weights.norm_weight),
                                          plain_weight(weights.norm_bias), weights.epsilon, type);
  made.h = device_linear(normal, made.in, padded_maps(weights.in_bias, hidden));
  DeviceActivation task = activation_of(made.h, weights.gated);
  const Tensor active = hidden_of(made.h, task);
  task.y = result_of(active);
  device_operations()->activation(task);
  made.y =
      device_add_residual(x, device_linear(active, made.out, {}), plain_weight(weights.out_bias));
  return made;
}

class DeviceFeedForward : public torch::autograd::Function<DeviceFeedForward> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const Tensor& norm_weight, const Maybe& norm_bias, const Tensor& in,
                        const Maybe& in_bias, const Tensor& out, const Maybe& out_bias, bool gated,
                        double epsilon) {
    const Tensor shift = norm_bias.value_or(Tensor());
    const Made made = forward_of(x, {norm_weight, shift, in, in_bias.value_or(Tensor()), out,
                                     out_bias.value_or(Tensor()), gated, epsilon});
    context->saved_data["gated"] = gated;
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["hidden"] = out.size(1);
    context->saved_data["in_bias"] = in_bias && in_bias->defined();
    context->saved_data["out_bias"] = out_bias && out_bias->defined();
    context->save_for_backward({x, norm_weight, shift, made.in, made.out, made.h});
    return made.y;
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const NoAutocast as_they_are;
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &in = saved[3], &out = saved[4], &h = saved[5];
    const double epsilon = context->saved_data["epsilon"].toDouble();
    const int64_t hidden = context->saved_data["hidden"].toInt();
    LF_RECORD_WORK("feed_forward_backward",
                   4 * (x.numel() / x.size(-1)) * (in.numel() + out.numel()));
    const Tensor dy = gradients[0].to(x.scalar_type()).contiguous();
    const Tensor dy_half = dy.to(h.scalar_type());
    DeviceActivation task = activation_of(h, context->saved_data["gated"].toBool());
    const Tensor active = hidden_of(h, task), d_active = at::mm(dy_half, out);
    const Tensor dh = at::empty_like(h);
    task.y = result_of(active);
    task.dy = data_of(d_active);
    task.dh = result_of(dh);
    device_operations()->activation_back(task);
    // The norm is computed again: reading it costs as much as reading x.
    const Tensor norm_weight = plain_weight(saved[1]), norm_bias = plain_weight(saved[2]);
    const Tensor normal = device_layer_norm(x, norm_weight, norm_bias, epsilon, h.scalar_type());
    const LayerNormSlopes norm =
        device_layer_norm_back(x, norm_weight, norm_bias, epsilon, at::mm(dh, in), dy);
    return {norm.dx,
            norm.weight,
            norm.bias,
            without_padding(weight_slopes(dh, normal), hidden),
            without_padding(bias_slopes(dh, context->saved_data["in_bias"].toBool()), hidden),
            weight_slopes(dy_half, active).slice(1, 0, hidden),
            bias_slopes(dy, context->saved_data["out_bias"].toBool()),
            {},
            {}};
  }
};

}  // namespace

Tensor device_feed_forward(const Tensor& x, const FeedForwardWeights& weights) {
  const FeedForwardWeights& w = weights;
  const Tensor rows = x.view({-1, x.size(-1)});
  if (wants_gradient({x, w.norm_weight, w.norm_bias, w.in, w.in_bias, w.out, w.out_bias})) {
    return DeviceFeedForward::apply(rows, w.norm_weight, Maybe(w.norm_bias), w.in, Maybe(w.in_bias),
                                    w.out, Maybe(w.out_bias), w.gated, w.epsilon)
        .view(x.sizes());
  }
  return forward_of(rows, weights).y.view(x.sizes());
}

}  // namespace lf
