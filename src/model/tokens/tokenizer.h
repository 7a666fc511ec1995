// A model that turns clips into codes or vectors on a grid of (time, row, column) and back: what a
// prior over codes, or diffusion in latents, knows of the model below it. make_tokenizer()
// (model.cc) maps a config to one.
#pragma once

#include <array>

#include "model/model.h"

namespace lf {

class Tokenizer : public Model {
 public:
  virtual int64_t codes() const = 0;  // 0: vectors only
  // Time steps, rows and columns of the codes of a clip of so many frames; Code::kUsage naming the
  // legal numbers if there can be no such clip.
  virtual std::array<int64_t, 3> grid(int64_t frames) const = 0;
  virtual int64_t frames(int64_t steps) const = 0;            // and back
  virtual at::Tensor encode(const at::Tensor& x_BTHWC) = 0;   // -> int64 [B, steps, rows, columns]
  virtual at::Tensor decode(const at::Tensor& ids_BTHW) = 0;  // -> [B, T, H, W, C] in [-1, 1]
  // The vectors themselves, of which codes are made, [B, steps, rows, columns, latent_width()], and
  // the clips that they stand for.
  virtual int64_t latent_width() const = 0;
  virtual at::Tensor latents(const at::Tensor& x_BTHWC) = 0;
  virtual at::Tensor clips_of_latents(const at::Tensor& z_BTHWD) = 0;
};

std::unique_ptr<Tokenizer> make_tokenizer(const Config& config, const ClipShape& shape,
                                          at::Device device, const SumOverRanks& sum = {},
                                          const OpenExport& open = {});

// The one that `file` holds, as `lastframe export` wrote it, without its discriminator; its weights
// take no gradient, and it runs by `kernels`. `option` is what named the file. Code::kUsage if it
// does not fit the clips.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& file, const char* option,
                                          const ClipShape& shape, at::Device device,
                                          const KernelChoice& kernels, const OpenExport& open);

}  // namespace lf
