#include "model/tokens/perceptual.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "base/error.h"
#include "model/classifier.h"
#include "model/extractors/lpips.h"
#include "model/extractors/weights.h"

namespace lf {
namespace {

// Features normalised over channels; 0, with gradient 0, where all channels are 0.
at::Tensor direction(const at::Tensor& features) {
  const at::Tensor x = features.to(at::kFloat);
  return x / (at::linalg_vector_norm(x, 2, at::IntArrayRef{1}, /*keepdim=*/true) + 1e-10);
}

FeatureMaps open_network(const std::string& file, at::Device device, const KernelChoice& kernels,
                         const OpenExport& open) {
  LF_CHECK(open != nullptr, "a perceptual loss is made where files can be opened");
  Weights weights(file, "", {}, by_name(open(file).tensors), device);
  if (is_lpips(weights)) return lpips_maps(weights);
  if (is_classifier(weights)) return classifier_maps(weights, kernels);
  fail(Code::kUsage, "perceptual.network: ", printable(file),
       " holds neither LPIPS nor a classifier of ours; make one with tools/convert_weights lpips, "
       "or by `lastframe export` of a model.classifier");
}

}  // namespace

at::Tensor feature_distance(const FeatureMaps& network, const std::vector<at::Tensor>& a,
                            const std::vector<at::Tensor>& b) {
  LF_CHECK(a.size() == network.heads.size() && b.size() == a.size(), "a head for every depth");
  at::Tensor sum = at::zeros({a[0].size(0)}, a[0].options().dtype(at::kFloat));
  for (size_t depth = 0; depth < a.size(); ++depth) {
    const at::Tensor apart = (direction(a[depth]) - direction(b[depth])).square();
    sum = sum + (apart * network.heads[depth]).sum(1).mean({1, 2});
  }
  return sum;
}

PerceptualLoss::PerceptualLoss(const std::string& file, const ClipShape& shape, at::Device device,
                               const KernelChoice& kernels, const OpenExport& open)
    : network_(open_network(file, device, kernels, open)) {
  if (std::min(shape.height, shape.width) < network_.smallest) {
    fail(Code::kUsage, "perceptual.network: ", network_.name, " needs images of ",
         network_.smallest, " pixels or more, clips are ", shape.height, "x", shape.width,
         "; give the weights of another network");
  }
  if (shape.channels != network_.channels && shape.channels != 1) {
    fail(Code::kUsage, "perceptual.network: ", network_.name, " takes ", network_.channels,
         " channels, clips have ", shape.channels, "; give the weights of another network");
  }
}

at::Tensor PerceptualLoss::operator()(const at::Tensor& given, const at::Tensor& made) const {
  const auto maps_of = [&](const at::Tensor& images) {
    return network_.of(images.expand({-1, network_.channels, -1, -1}));
  };
  std::vector<at::Tensor> wanted;
  {
    const at::NoGradGuard no_grad;
    wanted = maps_of(given);
  }
  return feature_distance(network_, wanted, maps_of(made)).mean();
}

}  // namespace lf
