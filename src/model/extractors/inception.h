// Inception-v3 as FID uses it (TensorFlow's of 2015-12-05 in pytorch-fid's graph). For inference
// only: batch norms folded, channels-last. Files may end after the 64-, 192- or 768-element
// features; then only those layers exist. Weights with a classifier of 1000 classes are
// torchvision's, whose pooling differs: the extractor is then "inception-torchvision", and its
// distances are not FID's.
//
// Layers: 64, 192, 768, 2048 (means over the map), spatial (sFID's: seven channels of Mixed_6d's
// first branch, 17 x 17 x 7), logits, and logits_unbiased (without the bias: the Inception
// Score's).
#pragma once

#include <memory>

#include "model/extractors/extractor.h"
#include "model/extractors/weights.h"
#include "run.pb.h"

namespace lf {

bool is_inception(const Weights& weights);
std::unique_ptr<Extractor> make_inception(Weights& weights, Preprocessing id, Precision precision);

}  // namespace lf
