#include "kernels/long_attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/forms.h"
#include "kernels/weights.h"

namespace lf {
namespace {

using at::Tensor;

// Measured against LibTorch's fused kernel, to which wider heads give enough to do.
constexpr int64_t kFewestTokens = 64, kWidest = 64, kTokensPerWidth = 4;

class LongAttention : public torch::autograd::Function<LongAttention> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& q, const Tensor& k,
                        const Tensor& v, double scale) {
    const Tensor query = plain_weight(q), key = plain_weight(k), value = plain_weight(v);
    const Made made = cpu::long_attention(query, key, value, scale);
    context->saved_data["scale"] = scale;
    context->save_for_backward({query, key, value, made.y, made.kept[0]});
    return made.y.to(v.scalar_type());
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const Tensors saved = context->get_saved_variables();
    Tensors all = cpu::long_attention_back(saved[0], saved[1], saved[2],
                                           context->saved_data["scale"].toDouble(), saved[3],
                                           saved[4], plain_weight(gradients[0]));
    all.emplace_back();
    return all;
  }
};

}  // namespace

bool takes_long_attention(const KernelChoice& kernels, const Tensor& q, const Tensor& k,
                          const Tensor& v) {
  return q.is_cpu() && target_of(kernels, Operation::kLongAttention, v) != Target::kPlain &&
         q.size(-2) >= std::max(kFewestTokens, kTokensPerWidth * q.size(-1)) &&
         q.size(-1) <= kWidest && q.numel() > 0 && q.sizes() == k.sizes() && q.sizes() == v.sizes();
}

Tensor long_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  return LongAttention::apply(q, k, v, scale);
}

}  // namespace lf
