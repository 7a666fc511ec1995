// The transformer of a prior: probabilities of the codes of a clip from its class and other codes
// of it. Which codes it may look at is the caller's mask; a cache keeps what settled codes came to,
// so that each new one costs one token. Called by code_prior.cc and prior_sampling.cc.
#pragma once

#include <array>
#include <vector>

#include "kernels/token_layer.h"
#include "model/tokens/transformer.h"
#include "run.pb.h"

namespace lf {

// The sequence is the class and then the codes, frame by frame and row by row.
class PriorNetwork {
 public:
  PriorNetwork(const Scope& scope, const CodePriorConfig& config,
               const std::array<int64_t, 3>& grid, int64_t codes);

  // Keys and values of the tokens that are settled.
  struct Cache {
    std::vector<at::Tensor> keys, values;  // of each layer, [B, heads, places + 1, head width]
    int64_t length = 0;
  };
  Cache cache(int64_t clips) const;

  // The first token of each sequence, [B, 1, width]; a label of -1 is no class.
  at::Tensor begin(const at::Tensor& labels_B) const;
  // Codes [B, n] at places first ... as tokens [B, n, width]; the id mask() is a code not yet
  // known.
  at::Tensor embed(const at::Tensor& ids, int64_t first) const;
  // Logits [B, n, codes] where `tokens` stand. `mask` [n, settled + n] says who sees whom,
  // undefined: everybody. With a cache the settled tokens are seen too, and with `settle` these
  // join them.
  at::Tensor logits(at::Tensor tokens, const at::Tensor& mask, Cache* cache = nullptr,
                    bool settle = false) const;

  const std::array<int64_t, 3>& grid() const { return grid_; }
  int64_t places() const { return grid_[0] * grid_[1] * grid_[2]; }
  int64_t codes() const { return codes_; }
  int64_t mask() const { return codes_; }

  // Masks [n, n] of a whole sequence or its beginning: nobody sees later tokens, or later frames.
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
  std::vector<LayerNorm> norm_;  // the last; one
  std::vector<Linear> head_;
};

}  // namespace lf
