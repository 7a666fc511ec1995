#include "kernels/skinny_matmul.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/task.h"
#include "kernels/forms.h"

namespace lf {
namespace {

using at::Tensor;

constexpr int64_t kFewest = 4, kMost = 64;  // rows

// The three products of a linear map: y = x w^T, dx = dy w and dw = dy^T x. The gradients of each
// are the other two, with an argument in each other's place, so one class differentiates them any
// number of times.
enum class Kind : int64_t { kMap, kRows, kWeight };

Tensor product(Kind kind, const Tensor& a, const Tensor& b);

class Product : public torch::autograd::Function<Product> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, int64_t kind, const Tensor& a,
                        const Tensor& b) {
    context->saved_data["kind"] = kind;
    context->save_for_backward({a, b});
    switch (static_cast<Kind>(kind)) {
      case Kind::kMap:
        return cpu::skinny_matmul(a, b, {});
      case Kind::kRows:
        return cpu::skinny_row_gradients(a, b);
      case Kind::kWeight:
        break;
    }
    return cpu::skinny_weight_gradients(a, b);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const Tensor &a = saved[0], &b = saved[1], &d = gradients[0];
    const bool first = context->needs_input_grad(0), second = context->needs_input_grad(1);
    switch (static_cast<Kind>(context->saved_data["kind"].toInt())) {
      case Kind::kMap:  // a = x, b = w
        return {{},
                first ? product(Kind::kRows, d, b) : Tensor(),
                second ? product(Kind::kWeight, d, a) : Tensor()};
      case Kind::kRows:  // a = dy, b = w
        return {{},
                first ? product(Kind::kMap, d, b) : Tensor(),
                second ? product(Kind::kWeight, a, d) : Tensor()};
      case Kind::kWeight:  // a = dy, b = x
        break;
    }
    return {{},
            first ? product(Kind::kMap, b, d) : Tensor(),
            second ? product(Kind::kRows, a, d) : Tensor()};
  }
};

Tensor product(Kind kind, const Tensor& a, const Tensor& b) {
  return Product::apply(static_cast<int64_t>(kind), a.contiguous(), b.contiguous());
}

}  // namespace

Tensor linear_map_reference(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

Tensor linear_map(const KernelChoice& kernels, const Tensor& x, const Tensor& weight,
                  const Tensor& bias) {
  const int64_t depth = weight.size(1), rows = depth > 0 ? x.numel() / depth : 0;
  const bool gradients = wants_gradient({x, weight, bias});
  if (rows < kFewest || rows > kMost ||
      target_of(kernels, Operation::kSkinnyMatmul, x) == Target::kPlain ||
      x.scalar_type() != at::kFloat || weight.scalar_type() != at::kFloat ||
      operands_of(wants_bf16(x)) != Operands::kSingle || (gradients && depth % kLanes != 0)) {
    return linear_map_reference(x, weight, bias);
  }
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  const Tensor input = x.reshape({rows, depth});
  if (!gradients) {
    return cpu::skinny_matmul(input.contiguous(), plain_weight(weight), plain_weight(bias))
        .view(sizes);
  }
  const Tensor y = product(Kind::kMap, input, weight);
  return (bias.defined() ? y + bias : y).view(sizes);
}

}  // namespace lf
