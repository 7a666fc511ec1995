// Activation checkpointing: a block of a network that keeps only what goes into it, and is computed
// again in backward. Less memory, about a third more time, the same bits: dropout is keyed, so
// there is no random state to restore, and the second time runs under the autocast of the first.
// Not a choice of where to cut a network: each model says what its blocks are. Called by the
// models, where train.recompute is set.
//
//   const Tensors out = recompute(block, {x, skip}, scope.weights());
//
// Everything that the block computes its result from and that may take a gradient has to be given,
// as an input or as a weight: a weight that the block uses and that is not listed is found in
// backward, and is Code::kBug. Weights get their gradients through the graph outside, once, so that
// GradientSync sees them as it sees all others; only a hook of the weight's own (register_hook) is
// called for each block as well. Blocks may contain blocks. A gradient of the gradient does not
// exist.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace lf {

using Tensors = std::vector<at::Tensor>;

// Has to give the same result each time; it is kept, with what it refers to, until backward is
// over.
using TensorFunction = std::function<Tensors(const Tensors&)>;

// What block(inputs) is. Where no gradient is being recorded it is no more than that call.
Tensors recompute(const TensorFunction& block, const Tensors& inputs, const Tensors& weights);

// The same for one tensor in and one out.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                     const Tensors& weights);

}  // namespace lf
