// Sampling codes from a prior's network: draws from logits, MaskGIT's schedule of rounds, and the
// three orders of sampling a clip. Random draws are keyed by clip, so the codes of a clip do not
// depend on the rank that samples it.
#pragma once

#include "model/model.h"
#include "model/tokens/prior_network.h"

namespace lf {

// Samples an id [...] from each row of logits [..., codes] by uniform draws [...] in [0, 1).
at::Tensor draw_codes(const at::Tensor& logits, const at::Tensor& uniform,
                      const CodePriorConfig& config);

// Logits [..., codes] with the effect of label smoothing removed from the probabilities: smoothing
// spreads its share over all codes. (MaskGIT draws from the smoothed ones, where with 0.1 every
// tenth draw is any code.)
at::Tensor without_smoothing(const at::Tensor& logits, double smoothing);

// How many of `total` codes are still masked after round `round` of `rounds`, of `open` before it.
int64_t open_after_round(int64_t total, int64_t open, int64_t round, int64_t rounds);

// Samples the codes [B, t, h, w] of whole clips. `known` [B, s, h, w] are those of the first time
// steps, kept as they are; undefined: none. `labels_B`: -1 is no class. `key` holds seed and first
// position; `window` distinguishes calls for the same clips.
at::Tensor generate_codes(const PriorNetwork& network, const CodePriorConfig& config,
                          const at::Tensor& labels_B, const at::Tensor& known, const Clips& key,
                          uint32_t window);

}  // namespace lf
