// The transformer of a prior: logits of the codes of a clip given its class and other codes. The
// caller's mask restricts attention; a cache holds keys and values of finished tokens, so that each
// new one costs one token.
#pragma once

#include <array>
#include <vector>

#include "kernels/token_layer.h"
#include "model/tokens/transformer.h"
#include "run.pb.h"

namespace lf {

// The sequence is the class, then the codes in raster order (time, row, column).
class PriorNetwork {
 public:
  PriorNetwork(const Scope& scope, const CodePriorConfig& config,
               const std::array<int64_t, 3>& grid, int64_t codes);

  // Keys and values of finished tokens.
  struct Cache {
    std::vector<at::Tensor> keys, values;  // of each layer, [B, heads, positions + 1, head width]
    int64_t length = 0;
  };
  Cache cache(int64_t clips) const;

  // The first token of each sequence, [B, 1, width]; label -1 is no class.
  at::Tensor begin(const at::Tensor& labels_B) const;
  // Codes [B, n] at positions first, first + 1, ... as tokens [B, n, width]; the id mask() is a
  // masked code.
  at::Tensor embed(const at::Tensor& ids, int64_t first) const;
  // Logits [B, n, codes] at `tokens`. `mask` [n, cached + n] is true where a token attends;
  // undefined: everywhere. With a cache tokens attend to the cached ones too; `append` adds them to
  // the cache.
  at::Tensor logits(at::Tensor tokens, const at::Tensor& mask, Cache* cache = nullptr,
                    bool append = false) const;

  const std::array<int64_t, 3>& grid() const { return grid_; }
  int64_t positions() const { return grid_[0] * grid_[1] * grid_[2]; }
  int64_t codes() const { return codes_; }
  int64_t mask() const { return codes_; }

  // Masks [n, n] for the first n tokens: no attention to later tokens, or to later frames.
  at::Tensor causal_mask(int64_t tokens) const;
  at::Tensor frame_mask(int64_t tokens) const;

 private:
  struct Layer {
    Layer(const Scope& scope, int64_t width);
    TokenLayerWeights weights(int64_t heads) const;
    LayerNorm norm1, norm2;
    Linear qkv, out, wide, narrow;
  };

  KernelChoice kernels_;
  std::array<int64_t, 3> grid_;
  int64_t codes_, heads_, width_, classes_;
  at::Tensor class_table_, code_table_, time_table_, row_table_, column_table_;
  std::vector<Layer> layers_;
  std::vector<LayerNorm> norm_;  // one, after the layers
  std::vector<Linear> head_;     // one
};

}  // namespace lf
