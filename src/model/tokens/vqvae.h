// The network of a VQ-VAE as in VQ-GAN: residual blocks and attention down to a grid of features
// and up again, each frame on its own. Only the network; quantiser and losses are
// TokenAutoencoder's.
#pragma once

#include "model/tokens/token_autoencoder.h"

namespace lf {

// Throws Code::kUsage if the levels do not divide height and width.
std::unique_ptr<Tokenizer> make_vqvae(const Config& config, const ClipShape& shape,
                                      at::Device device, const SumOverRanks& sum,
                                      const OpenExport& open);

}  // namespace lf
