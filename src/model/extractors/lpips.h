// LPIPS 0.1: the perceptual distance of two images by features of AlexNet, VGG16 or SqueezeNet 1.1,
// whichever the weights belong to. The metric; perceptual.h has the loss by the same features.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "model/extractors/weights.h"
#include "model/tokens/perceptual.h"

namespace lf {

// A distance between two images of one size.
class PairDistance {
 public:
  virtual ~PairDistance() = default;
  virtual std::string name() const = 0;  // "lpips-alex", "lpips-vgg", "lpips-squeeze"
  virtual std::string hash() const = 0;  // of the weight file, 16 hex digits
  // uint8 [N, H, W, 1 or 3] each -> float32 [N]. Throws Code::kUsage if their shapes differ or they
  // are too small for the network.
  virtual at::Tensor distance(const at::Tensor& a_NHWC, const at::Tensor& b_NHWC) const = 0;
};

bool is_lpips(const Weights& weights);
// Tensors: features.N.weight and .bias of torchvision's network, linK.weight of the heads.
FeatureMaps lpips_maps(Weights& weights);
std::unique_ptr<PairDistance> make_lpips(Weights& weights);

}  // namespace lf
