// Which form of an operation runs: the plain one over ATen, which is the truth, or the fused one
// for the device its input lies on. One row an operation; a fused form that does not exist, or that
// does not take an input's shape, leaves it to the plain one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace lf {

class TrainConfig;

enum class Form { kReference, kFused };

// Which forms the operations of a model take. A value that a model is made with and hands to every
// operation; nothing else decides.
struct KernelChoice {
  Form form = Form::kFused;
  bool gpu = false;  // fused on a GPU too, by the plugin's kernels
};

KernelChoice kernel_choice(const TrainConfig& config);

enum class Operation {
  kAttention,
  kFeedForward,
  kDepthwise,
  kNearestCode,
  kNormSilu,
  kLinearAttention,
  kSkinnyMatmul,
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

// Which form is to run over `x`, as far as the table can say.
enum class Target { kPlain, kCpu, kGpu };
Target target_of(const KernelChoice& kernels, Operation operation, const at::Tensor& x);

// Whether backward will come by: then a fused form keeps what it needs.
bool wants_gradient(at::TensorList tensors);

// For backward where it has no gradients of its own: asking for those is a bug rather than zeros.
void refuse_gradients_of_gradients();

// Whether products over x are to be in bf16: under autocast, and for inputs in it.
bool wants_bf16(const at::Tensor& x);

}  // namespace lf
