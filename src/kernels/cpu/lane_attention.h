// Attention within sixteen sequences at once, one a lane: scores, softmax, weighted sums and their
// gradients. A matrix of queries, keys or values is [head width][row], its column stride * token +
// lane; scores are [query][key][lane]. With fewer sequences than lanes the stride is smaller than
// 16: the other lanes read the next token's values, whose results are overwritten because tokens
// are written in ascending order. No torch here.
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace lf {

struct LaneShape {
  int64_t tokens, head_width, row, stride;
  Ints mine;  // -1 in the lanes that hold a sequence

  LF_INLINE Lanes only_mine(Lanes x) const { return mine ? x : Lanes{}; }
};

// out[i][j] = the product of token i of `a` and token j of `b`.
void dots(const float* a, const float* b, const LaneShape& shape, float* out);

// Token i of `out` = the sum over j of weights[i][j], or transposed weights[j][i], times token j of
// `b`.
void combine(bool transposed, const float* weights, const float* b, const LaneShape& shape,
             float* out);

// Scores to weights that add up to one over the keys. `bias` [query][key] and `mask`
// [query][key][lane] may be nullptr.
void softmax(float* scores, int64_t tokens, float scale, const float* bias, const float* mask);

// From the gradient of the weights to that of the scores before the scale, in place; that of the
// bias is added to `bias_sums` [query][key], if there is one.
void softmax_back(const float* weights, float* gradients, const LaneShape& shape, float scale,
                  float* bias_sums);

// Every token to length one and times `scale`; `lengths` [token][lane] get 1 over the length.
void direct(const float* x, const LaneShape& shape, const float* scale, float* lengths, float* out);

// From the gradient of direct()'s output to that of its input `x`; the scale's is added to the
// partial sums.
void direct_back(const float* x, const float* gradient, const LaneShape& shape, const float* scale,
                 const float* lengths, float* scale_sums, float* out);

// Rotates pairs of features by the token's angles in place, or back (also the gradient). Lanes
// without a sequence stay untouched, for they may be the next token's.
void rotate(float* x, const LaneShape& shape, const float* rotary, int64_t pairs, bool back);

}  // namespace lf
