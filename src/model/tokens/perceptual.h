// A perceptual distance: how different a network finds two images by its features at several
// depths. LPIPS is one, the stages of an own classifier another; as a loss it trains a tokenizer,
// so that gradients go through it to the image that was made. Not a metric: that is lpips.h, which
// computes by this. Called by TokenAutoencoder and LPIPS.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "run.pb.h"

namespace lf {

// A network whose features are compared.
struct FeatureMaps {
  std::string name;
  int64_t channels = 3, smallest = 1;  // of the images it takes
  // Images [N, channels, H, W] in [-1, 1] -> features [N, C, h, w] at every depth.
  std::function<std::vector<at::Tensor>(const at::Tensor& images)> of;
  std::vector<at::Tensor> heads;  // how much each channel counts, [1, C, 1, 1] for every depth
};

// float32 [N]: at every depth the squared difference of the directions of two places' features,
// weighed by channel, the mean over places; the sum over depths.
at::Tensor feature_distance(const FeatureMaps& network, const std::vector<at::Tensor>& a,
                            const std::vector<at::Tensor>& b);

class PerceptualLoss {
 public:
  // Code::kUsage if the file holds no such network, or one that cannot see images of this shape.
  PerceptualLoss(const std::string& file, const ClipShape& shape, at::Device device,
                 const KernelChoice& kernels, const OpenExport& open);
  // Images [N, C, H, W] in [-1, 1] -> the mean distance; differentiable in `made`.
  at::Tensor operator()(const at::Tensor& given, const at::Tensor& made) const;

 private:
  FeatureMaps network_;
};

}  // namespace lf
