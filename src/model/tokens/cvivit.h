// The network of C-ViViT: patches of a video, the first frame's apart, through a spatial and a
// causal temporal transformer to a grid of features, and mirrored back. No frame depends on a later
// one, so an image is a video of one frame. Only the network; the quantiser and the losses are
// TokenAutoencoder's. Called by make_tokenizer().
#pragma once

#include "model/tokens/token_autoencoder.h"

namespace lf {

// Code::kUsage, naming legal values, if patches do not fit into clips of this shape.
std::unique_ptr<Tokenizer> make_cvivit(const Config& config, const ClipShape& shape,
                                       at::Device device, const SumOverRanks& sum,
                                       const OpenExport& open);

}  // namespace lf
