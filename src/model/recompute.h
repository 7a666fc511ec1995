// Activation checkpointing: a block of a network keeps only its inputs and is computed again in
// backward. Less memory, about a third more time, the same bits: dropout is keyed, so there is no
// random state to restore, and the second forward runs under the autocast of the first. Each model
// chooses its blocks.
//
//   const Tensors out = recompute(block, {x, skip}, scope.weights());
//
// Every tensor the block uses that may take a gradient must be listed, as an input or as a weight;
// backward throws Code::kBug on a weight that is not. Weights get their gradients through the outer
// graph, once, so that GradientSync sees them like all others; only a weight's own hook
// (register_hook) is called for each block as well. Blocks may nest. Second-order gradients are not
// supported.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace lf {

using Tensors = std::vector<at::Tensor>;

// Must return the same result each time; it is kept, with what it refers to, until the end of
// backward.
using TensorFunction = std::function<Tensors(const Tensors&)>;

// Returns block(inputs). Without gradient recording it is just that call.
Tensors recompute(const TensorFunction& block, const Tensors& inputs, const Tensors& weights);

// The same for one input and one output.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                     const Tensors& weights);

}  // namespace lf
