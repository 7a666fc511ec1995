// A small residual network that classifies images, or clips with temporal convolutions. Its
// features are the extractor "own", for use without foreign weights. It trains like every model;
// the extractor is rebuilt from the exported tensors alone, whose shapes determine the network.
#pragma once

#include "model/extractors/extractor.h"
#include "model/extractors/weights.h"
#include "model/model.h"
#include "model/tokens/perceptual.h"

namespace lf {

std::unique_ptr<Model> make_classifier(const ClassifierConfig& config, const ClipShape& shape,
                                       const TrainConfig& train, at::Device device);

bool is_classifier(const Weights& weights);
// Layers: features (the input of the last, linear layer) and logits.
std::unique_ptr<Extractor> make_own_extractor(Weights& weights, const KernelChoice& kernels);
// The features after every stage, all channels weighted equally. Throws Code::kUsage for a
// classifier of clips.
FeatureMaps classifier_maps(Weights& weights, const KernelChoice& kernels);

}  // namespace lf
