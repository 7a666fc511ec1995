#include "model/recompute.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <unordered_set>

#include "base/error.h"
#include "kernels/dispatch.h"

namespace lf {
namespace {

using torch::autograd::Node;

// The state of autocast.
struct Arithmetic {
  at::DeviceType device;
  bool autocast;
  at::ScalarType type;

  static Arithmetic now(at::DeviceType device) {
    return {device, at::autocast::is_autocast_enabled(device),
            at::autocast::get_autocast_dtype(device)};
  }
  void choose() const {
    at::autocast::set_autocast_enabled(device, autocast);
    at::autocast::set_autocast_dtype(device, type);
  }
};

// Restores an earlier state of autocast for the lifetime of the object, without autocast's cache of
// cast weights: an entry made without gradients has no history and would cut the weights off.
class ArithmeticAgain {
 public:
  explicit ArithmeticAgain(const Arithmetic& wanted)
      : before_(Arithmetic::now(wanted.device)),
        cached_(at::autocast::is_autocast_cache_enabled()) {
    at::autocast::set_autocast_cache_enabled(false);
    wanted.choose();
  }
  ~ArithmeticAgain() {
    before_.choose();
    at::autocast::set_autocast_cache_enabled(cached_);
  }
  ArithmeticAgain(const ArithmeticAgain&) = delete;
  ArithmeticAgain& operator=(const ArithmeticAgain&) = delete;

 private:
  Arithmetic before_;
  bool cached_;
};

// What backward needs besides the tensors.
struct Kept : torch::CustomClassHolder {
  TensorFunction block;
  size_t inputs = 0;  // of the tensors; the rest are weights
  Arithmetic arithmetic{};
};

// Throws if the outputs depend on a leaf that is not listed: its gradient would be lost silently.
void expect_no_others(const Tensors& outputs, const Tensors& listed) {
  std::unordered_set<const Node*> seen;
  for (const at::Tensor& tensor : listed) {
    if (tensor.requires_grad()) seen.insert(torch::autograd::impl::grad_accumulator(tensor).get());
  }
  std::vector<Node*> open;
  const auto reach = [&](Node* node) {
    if (node != nullptr && seen.insert(node).second) open.push_back(node);
  };
  for (const at::Tensor& output : outputs) reach(output.grad_fn().get());
  while (!open.empty()) {
    Node* node = open.back();
    open.pop_back();
    if (const auto* leaf = dynamic_cast<torch::autograd::AccumulateGrad*>(node)) {
      fail(Code::kBug,
           lf::str("a block that is recomputed uses a weight of shape ", leaf->variable.sizes(),
                   " that is not listed in recompute(); list it, or its gradient is lost"));
    }
    for (const auto& edge : node->next_edges()) reach(edge.function.get());
  }
}

class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static Tensors forward(torch::autograd::AutogradContext* context,
                         const c10::intrusive_ptr<Kept>& kept, at::TensorList tensors) {
    context->saved_data["kept"] = c10::IValue::make_capsule(kept);
    context->set_materialize_grads(false);
    context->save_for_backward(tensors.vec());
    const ArithmeticAgain uncached(kept->arithmetic);
    return kept->block(tensors.slice(0, kept->inputs).vec());
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& gradients) {
    refuse_gradients_of_gradients();
    const auto capsule = context->saved_data["kept"].toCapsule();
    const auto& kept = dynamic_cast<const Kept&>(*capsule);
    Tensors tensors = context->get_saved_variables();
    for (size_t i = 0; i < kept.inputs; ++i) {
      tensors[i] = tensors[i].detach().set_requires_grad(tensors[i].requires_grad());
    }
    const Tensors outputs = again(kept, tensors);

    Tensors roots, root_gradients, wanted;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!gradients[i].defined() || !outputs[i].requires_grad()) continue;
      roots.push_back(outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    Tensors found(tensors.size() + 1);  // the first is for `kept`, which has no gradient
    std::vector<size_t> indices;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!tensors[i].requires_grad() || !context->needs_input_grad(i)) continue;
      indices.push_back(i + 1);
      wanted.push_back(tensors[i]);
    }
    if (roots.empty() || wanted.empty()) return found;
    // autograd::grad leaves the weights' .grad alone; the outer graph accumulates the result.
    const Tensors values =
        torch::autograd::grad(roots, wanted, root_gradients, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < indices.size(); ++i) found[indices[i]] = values[i];
    return found;
  }

 private:
  static Tensors again(const Kept& kept, const Tensors& tensors) {
    const at::AutoGradMode record(true);
    const ArithmeticAgain same(kept.arithmetic);
    const auto inputs = static_cast<int64_t>(kept.inputs);
    const Tensors outputs = kept.block({tensors.begin(), tensors.begin() + inputs});
    expect_no_others(outputs, tensors);
    return outputs;
  }
};

}  // namespace

Tensors recompute(const TensorFunction& block, const Tensors& inputs, const Tensors& weights) {
  if (!at::GradMode::is_enabled()) return block(inputs);
  LF_CHECK(!inputs.empty(), "a block without inputs cannot be recomputed");
  const auto kept = c10::make_intrusive<Kept>();
  kept->block = block;
  kept->inputs = inputs.size();
  kept->arithmetic = Arithmetic::now(inputs.front().device().type());
  Tensors tensors = inputs;
  tensors.insert(tensors.end(), weights.begin(), weights.end());
  return Recomputed::apply(kept, at::TensorList(tensors));
}

at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                     const Tensors& weights) {
  return recompute([block](const Tensors& inputs) { return Tensors{block(inputs[0])}; }, Tensors{x},
                   weights)[0];
}

}  // namespace lf
