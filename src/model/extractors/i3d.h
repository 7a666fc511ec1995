// I3D on RGB, trained on Kinetics-400, whose 400 logits FVD measures: for inference, batch norms
// folded. Not for training. Frames are resized to 224 x 224 (bilinear, half-pixel centres, no
// antialias) and put in [-1, 1]. The one layer is "logits". Called by eval/open_extractor.cc.
#pragma once

#include <memory>

#include "model/extractors/extractor.h"
#include "model/extractors/weights.h"

namespace lf {

bool is_i3d(const Weights& weights);
// The batch norms' epsilon is the file's entry batch_norm_epsilon, 1e-5 without one.
std::unique_ptr<Extractor> make_i3d(Weights& weights);

}  // namespace lf
