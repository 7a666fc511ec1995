// The network of a VQ-VAE of the VQ-GAN family: residual blocks and attention down to a grid of
// features and up again, every frame for itself. Only the network; the quantiser and the losses are
// TokenAutoencoder's. Called by make_tokenizer().
#pragma once

#include "model/tokens/token_autoencoder.h"

namespace lf {

// Code::kUsage if the levels do not divide the frames of this shape.
std::unique_ptr<Tokenizer> make_vqvae(const Config& config, const ClipShape& shape,
                                      at::Device device, const SumOverRanks& sum,
                                      const OpenExport& open);

}  // namespace lf
