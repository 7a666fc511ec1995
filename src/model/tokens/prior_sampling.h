// How a prior's network makes codes: drawing from logits, how many codes the rounds of MaskGIT
// leave open, and the three ways through a clip. All chance is keyed by clip, so the codes of a
// clip do not depend on which rank makes it. Called by code_prior.cc.
#pragma once

#include "model/model.h"
#include "model/tokens/prior_network.h"

namespace lf {

// One id [...] of each row of logits [..., codes], `luck` [...] being uniform in [0, 1).
at::Tensor draw_codes(const at::Tensor& logits, const at::Tensor& luck,
                      const CodePriorConfig& config);

// Logits [..., codes] of the probabilities that a network was meant to learn, from those it learnt
// with label smoothing: what that spread over all codes is taken away again. MaskGIT draws from the
// smoothed ones, in which every tenth code is any code at all.
at::Tensor without_smoothing(const at::Tensor& logits, double smoothing);

// How many of `total` codes are still open after round `round` of `rounds`, of `open` before it.
int64_t open_after_round(int64_t total, int64_t open, int64_t round, int64_t rounds);

// Codes [B, t, h, w] of whole clips. `known` [B, s, h, w] are those of the first steps, kept as
// they are; undefined: none. `labels_B`: -1 is no class. `key` gives seed and first position,
// `window` tells apart calls for the same clips.
at::Tensor generate_codes(const PriorNetwork& network, const CodePriorConfig& config,
                          const at::Tensor& labels_B, const at::Tensor& known, const Clips& key,
                          uint32_t window);

}  // namespace lf
