// The network of C-ViViT: patches of a video, the first frame's on their own, through a spatial and
// a causal temporal transformer to a grid of features; the decoder mirrors it. No frame depends on
// a later one, so an image is a video of one frame. Only the network; quantiser and losses are
// TokenAutoencoder's.
#pragma once

#include "model/tokens/token_autoencoder.h"

namespace lf {

// Throws Code::kUsage, naming legal values, if patches do not divide clips of this shape.
std::unique_ptr<Tokenizer> make_cvivit(const Config& config, const ClipShape& shape,
                                       at::Device device, const SumOverRanks& sum,
                                       const OpenExport& open);

}  // namespace lf
