// A model that turns clips into codes on a grid of (time, row, column) and back: what a prior over
// codes knows of the model below it. make_tokenizer() (model.cc) maps a config to one.
#pragma once

#include <array>

#include "model/model.h"

namespace lf {

class Tokenizer : public Model {
 public:
  virtual int64_t codes() const = 0;
  // Time steps, rows and columns of the codes of a clip of so many frames; Code::kUsage naming the
  // legal numbers if there can be no such clip.
  virtual std::array<int64_t, 3> grid(int64_t frames) const = 0;
  virtual int64_t frames(int64_t steps) const = 0;            // and back
  virtual at::Tensor encode(const at::Tensor& x_BTHWC) = 0;   // -> int64 [B, steps, rows, columns]
  virtual at::Tensor decode(const at::Tensor& ids_BTHW) = 0;  // -> [B, T, H, W, C] in [-1, 1]
};

std::unique_ptr<Tokenizer> make_tokenizer(const Config& config, const ClipShape& shape,
                                          at::Device device, const SumOverRanks& sum = {},
                                          const OpenExport& open = {});

}  // namespace lf
