// Layers shared by the models: structs of tensors with a call operator over ATen. Images are
// [N, C, H, W] in channels-last memory, the fastest layout on CPU and GPU. Not a module system:
// names and storage are the ParameterTable's.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/parameters.h"

namespace lf {

// The weight of a linear map, [out, in] or [out, in, 1, 1], with its adapter if the run trains any.
class MapWeight {
 public:
  MapWeight(const Scope& scope, at::IntArrayRef shape, Init init);
  at::Tensor operator()() const { return adapter_ ? adapted(weight_, *adapter_) : weight_; }
  const at::Tensor& stored() const { return weight_; }  // without its adapter
  int64_t size(int64_t dimension) const { return weight_.size(dimension); }
  at::TensorOptions options() const { return weight_.options(); }

 private:
  at::Tensor weight_;
  std::optional<Adapter> adapter_;
};

// 3 x 3 with stride 1 is kernels/convolution.h.
struct Conv2d {
  Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, int64_t stride = 1,
         Init init = Init::kFanIn);
  at::Tensor operator()(const at::Tensor& x) const;  // zero padding of kernel / 2
  KernelChoice kernels;
  at::Tensor weight, bias;
  std::optional<Adapter> adapter;  // of 1 x 1, a linear map of each pixel
  int64_t stride, padding;
};

// Over the last dimension.
struct Linear {
  Linear(const Scope& scope, int64_t in, int64_t out, bool with_bias = true,
         Init init = Init::kFanIn);
  at::Tensor operator()(const at::Tensor& x) const;
  KernelChoice kernels;
  MapWeight weight;
  at::Tensor bias;  // undefined without
};

// A Linear over one row a frame, not one a pixel. On CPU in fp32 under autocast too: casting
// weights and gradients takes longer than the few products.
struct FrameLinear : Linear {
  using Linear::Linear;
  at::Tensor operator()(const at::Tensor& x) const;
};

// Over the last dimension.
struct LayerNorm {
  LayerNorm(const Scope& scope, int64_t width, bool with_bias = true);
  at::Tensor operator()(const at::Tensor& x) const;
  at::Tensor weight, bias;
};

// A convolution of width 3 along time, as a 2-D one over [B, C, T, H*W]: a 3-D one is three times
// slower on CPU.
struct TemporalConv {
  TemporalConv(const Scope& scope, int64_t channels, Init init = Init::kFanIn);
  at::Tensor operator()(const at::Tensor& images, int64_t frames) const;
  at::Tensor weight, bias;
};

// Of images; statistics in fp32 for any input type.
struct GroupNorm {
  GroupNorm(const Scope& scope, int64_t channels, int64_t groups = 0, double epsilon = 1e-5);
  at::Tensor operator()(const at::Tensor& images) const;
  at::Tensor with_silu(const at::Tensor& images) const;
  KernelChoice kernels;
  at::Tensor weight, bias;
  int64_t groups;  // 0 makes it min(32, channels / 4)
  double epsilon;
};

at::Tensor twice_as_large(const at::Tensor& images);  // nearest neighbour

// Images in channels-last memory as rows of channels, [N, H*W, C], and back: views, no copies.
at::Tensor as_rows(const at::Tensor& images);
at::Tensor as_images(const at::Tensor& rows, int64_t height);

}  // namespace lf
