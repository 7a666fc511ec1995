// I3D on RGB, trained on Kinetics-400; FVD uses its 400 logits. For inference only: batch norms are
// folded. Frames are resized to 224 x 224 (bilinear, half-pixel centres, no antialias) and scaled
// to [-1, 1]. The one layer is "logits".
#pragma once

#include <memory>

#include "model/extractors/extractor.h"
#include "model/extractors/weights.h"

namespace lf {

bool is_i3d(const Weights& weights);
// Batch norms' epsilon is the file's metadata entry batch_norm_epsilon (default: 1e-5).
std::unique_ptr<Extractor> make_i3d(Weights& weights);

}  // namespace lf
