// The interface of tokenizers: models that encode clips as codes or vectors on a grid of (time,
// row, column) and decode them. Priors over codes and diffusion in latents build on it.
#pragma once

#include <array>

#include "model/model.h"

namespace lf {

class Tokenizer : public Model {
 public:
  virtual int64_t codes() const = 0;  // 0: vectors only
  // Time steps, rows and columns of the codes of a clip of so many frames. Throws Code::kUsage,
  // naming the legal numbers, if there is no such clip.
  virtual std::array<int64_t, 3> grid(int64_t frames) const = 0;
  virtual int64_t frames(int64_t steps) const = 0;            // the inverse
  virtual at::Tensor encode(const at::Tensor& x_BTHWC) = 0;   // -> int64 [B, steps, rows, columns]
  virtual at::Tensor decode(const at::Tensor& ids_BTHW) = 0;  // -> [B, T, H, W, C] in [-1, 1]
  // The vectors before quantisation, [B, steps, rows, columns, latent_width()], and their decoding.
  virtual int64_t latent_width() const = 0;
  virtual at::Tensor latents(const at::Tensor& x_BTHWC) = 0;
  virtual at::Tensor clips_of_latents(const at::Tensor& z_BTHWD) = 0;
};

std::unique_ptr<Tokenizer> make_tokenizer(const Config& config, const ClipShape& shape,
                                          at::Device device, const SumOverRanks& sum = {},
                                          const OpenExport& open = {});

// The tokenizer in a file of `lastframe export`, frozen and without its discriminator; its
// operations run as `kernels`. `option` named the file. Throws Code::kUsage if it does not fit the
// clips.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& file, const char* option,
                                          const ClipShape& shape, at::Device device,
                                          const KernelChoice& kernels, const OpenExport& open);

}  // namespace lf
