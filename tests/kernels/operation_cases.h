// Cases of the fused operations, of random shapes: odd, tiny, no multiple of any vector. Used by
// the tests on CPU and by those on a GPU.
#pragma once

#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "base/error.h"
#include "kernels/attention.h"
#include "kernels/depthwise.h"
#include "kernels/feed_forward.h"
#include "kernels/linear_attention.h"
#include "kernels/norm_silu.h"
#include "tests/kernels/kernel_fixture.h"

namespace lf {

inline at::Tensor random_mask(int64_t outer, int64_t tokens) {
  at::Tensor mask = at::zeros({outer, tokens, tokens});
  mask.masked_fill_(at::rand({outer, 1, tokens}) < 0.3, -std::numeric_limits<float>::infinity());
  mask.select(2, 0).zero_();  // every query sees the first
  return mask.to(device_of_cases());
}

// Cosine or plain, with any of biases, rotary, mask and bias; odd sizes included. `biases`: for
// autocast, all cases must have the same inputs.
inline Case attention_case(std::mt19937& generator, bool fixed) {
  const int64_t heads = between(generator, 1, 3), head = between(generator, 3, 20),
                width = coin(generator) ? between(generator, 3, head) : between(generator, 5, 70);
  const int64_t most = fixed ? 12 : 40;
  const Sequences s{between(generator, 1, 3), between(generator, 1, most),
                    between(generator, 1, 20)};
  const bool cosine = fixed || coin(generator), biases = fixed || coin(generator);
  AttentionWeights w;
  w.heads = heads;
  w.scale = cosine ? 4 : 0.3;
  const bool norm = fixed || coin(generator);
  if (norm) w.norm_weight = weight({width});
  w.query = weight({heads * head, width}, 0.2);
  w.key_value = weight({2 * heads * head, width}, 0.2);
  w.out = weight({width, heads * head}, 0.2);
  Case one;
  if (cosine) {
    w.query_scale = weight({head});
    w.key_scale = weight({head});
  }
  if (biases) {
    if (norm) w.norm_bias = weight({width});
    w.query_bias = weight({heads * head});
    w.key_value_bias = weight({2 * heads * head});
    w.out_bias = weight({width});
  }
  if (fixed || coin(generator)) w.bias = weight({heads, s.tokens, s.tokens});
  if (coin(generator)) w.mask = random_mask(s.outer, s.tokens);
  if (coin(generator)) {
    const at::Tensor angles = at::rand({s.tokens, between(generator, 1, head / 2)}) * 6;
    w.rotary = at::stack({angles.cos(), angles.sin()}, -1).to(device_of_cases());
  }
  const at::Tensor x = weight({s.outer, s.tokens, s.inner, width});
  const at::Tensor residual = !fixed && coin(generator) ? weight(x.sizes()) : at::Tensor();
  for (const at::Tensor& one_of :
       {x, w.norm_weight, w.query, w.key_value, w.out, w.query_scale, w.key_scale, w.norm_bias,
        w.query_bias, w.key_value_bias, w.out_bias, w.bias, residual}) {
    if (one_of.defined()) one.inputs.push_back(one_of);
  }
  one.shape = lf::str("attention ", s.outer, "x", s.tokens, "x", s.inner, "x", width, ", ", heads,
                      " heads of ", head, cosine ? ", cosine" : "", biases ? ", biases" : "",
                      w.mask.defined() ? ", mask" : "", w.rotary.defined() ? ", rotary" : "",
                      norm ? "" : ", no norm", residual.defined() ? ", residual" : "");
  one.run = [=](const KernelChoice& kernels) { return attention(kernels, x, s, w, residual); };
  return one;
}
inline Case any_attention(std::mt19937& generator) { return attention_case(generator, false); }
inline Case full_attention(std::mt19937& generator) { return attention_case(generator, true); }

// Long sequences of narrow heads, no multiple of a block.
inline Case any_long_attention(std::mt19937& generator) {
  const int64_t clips = between(generator, 1, 2), heads = between(generator, 1, 3),
                width = between(generator, 1, 64),
                tokens = between(generator, std::max<int64_t>(64, 4 * width), 500);
  const at::Tensor rows = weight({clips, tokens, 3, heads, width});
  const double scale = coin(generator) ? 1 : 0.2;
  return {lf::str("long attention ", clips, "x", tokens, ", ", heads, " heads of ", width),
          {rows},
          [=](const KernelChoice& kernels) {
            const at::Tensor parts = rows.permute({2, 0, 3, 1, 4});
            return attend(kernels, parts[0], parts[1], parts[2], {}, scale);
          }};
}

inline Case feed_forward_case(std::mt19937& generator, bool fixed) {
  const int64_t width = between(generator, 3, 70), hidden = between(generator, 1, 90);
  const int64_t rows = between(generator, 1, 400);
  FeedForwardWeights w;
  w.gated = fixed || coin(generator);
  const int64_t maps = w.gated ? 2 * hidden : hidden;
  w.norm_weight = weight({width});
  w.in = weight({maps, width}, 0.3);
  w.out = weight({width, hidden}, 0.3);
  const at::Tensor x = weight({rows, width});
  Case one{lf::str("feed forward ", rows, "x", width, ", ", hidden, w.gated ? " gated" : ""),
           {x, w.norm_weight, w.in, w.out},
           {}};
  if (fixed || coin(generator)) {
    w.norm_bias = weight({width});
    w.in_bias = weight({maps});
    w.out_bias = weight({width});
    for (const at::Tensor& bias : {w.norm_bias, w.in_bias, w.out_bias}) one.inputs.push_back(bias);
  }
  one.run = [=](const KernelChoice& kernels) { return feed_forward(kernels, x, w); };
  return one;
}
inline Case any_feed_forward(std::mt19937& generator) {
  return feed_forward_case(generator, false);
}
inline Case full_feed_forward(std::mt19937& generator) {
  return feed_forward_case(generator, true);
}

inline Case depthwise_case(std::mt19937& generator) {
  const int64_t channels = between(generator, 1, 70);
  const at::Tensor x = weight({between(generator, 1, 3), between(generator, 1, 6),
                               between(generator, 1, 6), between(generator, 1, 6), channels});
  const at::Tensor taps = weight({channels, 1, 3, 3, 3}), bias = weight({channels});
  return {lf::str("depthwise ", x.sizes()), {x, taps, bias}, [=](const KernelChoice& kernels) {
            return causal_depthwise(kernels, x, taps, bias);
          }};
}

inline Case norm_case(std::mt19937& generator, bool fixed) {
  const int64_t groups = coin(generator) ? 0 : between(generator, 1, 4);
  const int64_t channels =
      groups > 0 ? groups * between(generator, 1, 17) : between(generator, 2, 70);
  const int64_t clips = between(generator, 1, 3), frames = between(generator, 1, 3),
                side = between(generator, 2, 9);
  const int64_t rows = coin(generator) ? clips : 1;
  const at::Tensor x = weight({clips * frames, side * side, channels});
  const at::Tensor gain = weight({rows, channels}), shift = weight({rows, channels});
  const NormKind kind{groups, 1e-5, fixed || coin(generator)};
  Case one{lf::str("norm ", clips, "x", frames, ", ", side, "x", side, "x", channels, ", groups ",
                   groups, kind.silu ? ", silu" : ""),
           {x, gain, shift},
           {}};
  at::Tensor residual;
  if (fixed || coin(generator)) {
    residual = weight(x.sizes());
    one.inputs.push_back(residual);
  }
  one.run = [=](const KernelChoice& kernels) {
    return norm_silu(kernels, x, kind, gain, shift, residual);
  };
  return one;
}
inline Case any_norm(std::mt19937& generator) { return norm_case(generator, false); }

inline Case linear_attention_case(std::mt19937& generator, bool fixed) {
  const int64_t heads = between(generator, 1, 3), head = between(generator, 2, 20),
                width = between(generator, 3, 70);
  const int64_t frames = between(generator, 1, 6), places = between(generator, 1, 90);
  LinearAttentionWeights w;
  w.heads = heads;
  w.scale = 0.4;
  w.norm_weight = weight({width});
  w.query_key_value = weight({3 * heads * head, width}, 0.3);
  w.out = weight({width, heads * head}, 0.3);
  const at::Tensor x = weight({frames, places, width});
  Case one{lf::str("linear attention ", frames, "x", places, "x", width, ", ", heads, " heads of ",
                   head),
           {x, w.norm_weight, w.query_key_value, w.out},
           {}};
  if (fixed || coin(generator)) {
    w.norm_bias = weight({width});
    w.out_bias = weight({width});
    one.inputs.push_back(w.norm_bias);
    one.inputs.push_back(w.out_bias);
  }
  one.run = [=](const KernelChoice& kernels) { return linear_attention(kernels, x, w); };
  return one;
}
inline Case any_linear_attention(std::mt19937& generator) {
  return linear_attention_case(generator, false);
}
inline Case full_linear_attention(std::mt19937& generator) {
  return linear_attention_case(generator, true);
}

}  // namespace lf
