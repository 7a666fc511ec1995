// The autoencoder around a quantiser: a network (VQ-VAE or C-ViViT) encodes clips as features and
// decodes them, with the quantiser in between; reconstruction, perceptual and adversarial losses.
#pragma once

#include "model/tokens/tokenizer.h"

namespace lf {

// Clips to features on a grid and back.
class TokenNetwork {
 public:
  virtual ~TokenNetwork() = default;
  virtual int64_t width() const = 0;                         // of a feature
  virtual int64_t decoder_width() const { return width(); }  // of what decode() takes
  virtual std::array<int64_t, 3> grid(int64_t frames) const = 0;
  virtual int64_t frames(int64_t steps) const = 0;
  virtual at::Tensor encode(const at::Tensor& x_BTHWC) const = 0;          // -> [B, t, h, w, width]
  virtual at::Tensor decode(const at::Tensor& z_BTHWD) const = 0;          // -> [B, T, H, W, C]
  virtual std::vector<at::Tensor> last_weights(int64_t frames) const = 0;  // of the output layer
};

struct TokenParts {
  // Makes the network, with its weights in the table.
  std::function<std::unique_ptr<TokenNetwork>(const Scope&)> network;
  QuantiserConfig quantiser;
  bool always_project = false;  // between features and vectors, even if their widths are equal
  ReconstructionConfig reconstruction;
  PerceptualConfig perceptual;
  GanConfig gan;
};

std::unique_ptr<Tokenizer> make_token_autoencoder(const TokenParts& parts, const Config& config,
                                                  const ClipShape& shape, at::Device device,
                                                  const SumOverRanks& sum, const OpenExport& open);

}  // namespace lf
