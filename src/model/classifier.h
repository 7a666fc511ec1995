// A small residual network that learns the labels of images, or of clips by mixing along time, and
// whose features serve as the extractor "own" where no other weights are at hand. It trains like
// every model; the extractor is rebuilt from the exported tensors alone, whose shapes say what the
// network was. Called by model.cc, eval/open_extractor.cc and PerceptualLoss.
#pragma once

#include "model/extractors/extractor.h"
#include "model/extractors/weights.h"
#include "model/model.h"
#include "model/tokens/perceptual.h"

namespace lf {

std::unique_ptr<Model> make_classifier(const ClassifierConfig& config, const ClipShape& shape,
                                       uint64_t seed, at::Device device,
                                       const KernelChoice& kernels);

bool is_classifier(const Weights& weights);
// Layers: features (what the last, linear layer sees) and logits.
std::unique_ptr<Extractor> make_own_extractor(Weights& weights, const KernelChoice& kernels);
// The features after every stage, each channel counting alike. Code::kUsage for one of clips.
FeatureMaps classifier_maps(Weights& weights, const KernelChoice& kernels);

}  // namespace lf
