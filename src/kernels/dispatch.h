// Which form of an operation runs: the plain one over ATen, which is the truth, or the fused one
// for the device its input lies on. One row an operation; a fused form that does not exist, or that
// does not take an input's shape, leaves it to the plain one. `train.kernels` makes the choice for
// the process. Called by the operations, make_model() and `lastframe list kernels`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/cpu/products.h"

namespace lf {

enum class Form { kReference, kFused };

enum class Operation {
  kAttention,
  kFeedForward,
  kDepthwise,
  kNearestCode,
  kNormSilu,
  kLinearAttention,
  kFewRows,
  kConvolution,
  kLongAttention,
  kTokenLayer,
};

struct OperationRow {
  const char* name;
  const char* help;
  bool cpu, cuda;  // whether there is a fused form
};

const std::vector<OperationRow>& operation_table();

// For the whole process.
void choose_form(Form form);
Form chosen_form();

// While it lives, operations take this form. For tests and for timing one against the other.
class ForcedForm {
 public:
  explicit ForcedForm(Form form) : before_(chosen_form()) { choose_form(form); }
  ~ForcedForm() { choose_form(before_); }
  ForcedForm(const ForcedForm&) = delete;
  ForcedForm& operator=(const ForcedForm&) = delete;

 private:
  Form before_;
};

// Whether the fused form for the device of `x` is to be taken, as far as the table can say.
bool fused(Operation operation, const at::Tensor& x);

// Whether backward will come by: then a fused form keeps what it needs.
bool wants_gradient(at::TensorList tensors);

// For backward where it has no gradients of its own: asking for those is a bug rather than zeros.
void refuse_gradients_of_gradients();

// Whether products over x are to be in bfloat16: under autocast, and for inputs in it.
bool wants_bfloat16(const at::Tensor& x);

// The same for a CPU, where this one can.
Operands operands_for(const at::Tensor& x);

}  // namespace lf
