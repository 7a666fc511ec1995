// A perceptual loss: the distance of two images in a network's features at several depths, by LPIPS
// or an own classifier. Differentiable in the made image. Not a metric: that is lpips.h, which
// computes by this.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "run.pb.h"

namespace lf {

// A network that computes the features.
struct FeatureMaps {
  std::string name;
  int64_t channels = 3, smallest = 1;  // of the images it takes
  // Images [N, channels, H, W] in [-1, 1] -> features [N, C, h, w] at every depth.
  std::function<std::vector<at::Tensor>(const at::Tensor& images)> of;
  std::vector<at::Tensor> heads;  // weights of the channels, [1, C, 1, 1] for every depth
};

// float32 [N]: the squared difference of normalised features, weighted by channel, averaged over
// pixels and summed over depths.
at::Tensor feature_distance(const FeatureMaps& network, const std::vector<at::Tensor>& a,
                            const std::vector<at::Tensor>& b);

class PerceptualLoss {
 public:
  // Throws Code::kUsage if the file holds no such network, or one that does not fit these images.
  PerceptualLoss(const std::string& file, const ClipShape& shape, at::Device device,
                 const KernelChoice& kernels, const OpenExport& open);
  // Images [N, C, H, W] in [-1, 1] -> the mean distance; differentiable in `made`.
  at::Tensor operator()(const at::Tensor& given, const at::Tensor& made) const;

 private:
  FeatureMaps network_;
};

}  // namespace lf
