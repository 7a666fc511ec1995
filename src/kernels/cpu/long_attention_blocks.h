// Attention of long sequences on CPU: plain pointers, a block of queries against a block of keys
// at a time, so that no score leaves a core's L1 cache. Scores are [key][query]: the online
// softmax runs down the lanes, a query each. Backward recomputes the weights from the logarithm of
// their sum.
#pragma once

#include <cstdint>

namespace lf {

struct LongAttentionTask {
  int64_t sequences, tokens, width;
  float scale;
  const float *query, *key, *value;  // [sequences, tokens, width], as all below
  float* mixed;                      // what forward makes and backward needs
  float* logs;                       // [sequences, logs_row()]: log2 of what weights add up to
  const float* gradient;             // of `mixed`
  float *query_gradient, *key_gradient, *value_gradient;

  int64_t blocks() const;  // of queries, a sequence
  int64_t logs_row() const;
  int64_t flops() const { return 4 * sequences * tokens * tokens * width; }  // forward
};

void long_attention_block(const LongAttentionTask& task, int64_t sequence, int64_t block);
void long_attention_back(const LongAttentionTask& task, int64_t sequence);

}  // namespace lf
