// The halves of transformers' layers and the position generator.
#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "base/error.h"
#include "kernel_fixture.h"
#include "kernels/attention.h"
#include "kernels/depthwise.h"
#include "kernels/feed_forward.h"

namespace lf {
namespace {

at::Tensor random_mask(int64_t outer, int64_t tokens) {
  at::Tensor mask = at::zeros({outer, tokens, tokens});
  mask.masked_fill_(at::rand({outer, 1, tokens}) < 0.3, -std::numeric_limits<float>::infinity());
  mask.select(2, 0).zero_();  // every query sees the first
  return mask;
}

// Cosine or plain, with any of biases, rotary, mask and bias; odd sizes included. `biases`: for
// autocast, all cases must have the same inputs.
Case attention_case(std::mt19937& luck, bool fixed) {
  const int64_t heads = between(luck, 1, 3), head = between(luck, 3, 20),
                width = coin(luck) ? between(luck, 2, head) : between(luck, 5, 70);
  const int64_t most = fixed ? 12 : 40;
  const Sequences s{between(luck, 1, 3), between(luck, 1, most), between(luck, 1, 20)};
  const bool cosine = fixed || coin(luck), biases = fixed || coin(luck);
  AttentionWeights w;
  w.heads = heads;
  w.scale = cosine ? 4 : 0.3;
  const bool norm = fixed || coin(luck);
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
  if (fixed || coin(luck)) w.bias = weight({heads, s.tokens, s.tokens});
  if (coin(luck)) w.mask = random_mask(s.outer, s.tokens);
  if (coin(luck)) {
    const at::Tensor angles = at::rand({s.tokens, between(luck, 1, head / 2)}) * 6;
    w.rotary = at::stack({angles.cos(), angles.sin()}, -1);
  }
  const at::Tensor x = weight({s.outer, s.tokens, s.inner, width});
  const at::Tensor residual = !fixed && coin(luck) ? weight(x.sizes()) : at::Tensor();
  for (const at::Tensor& one_of :
       {x, w.norm_weight, w.query, w.key_value, w.out, w.query_scale, w.key_scale, w.norm_bias,
        w.query_bias, w.key_value_bias, w.out_bias, w.bias, residual}) {
    if (one_of.defined()) one.inputs.push_back(one_of);
  }
  one.shape = str("attention ", s.outer, "x", s.tokens, "x", s.inner, "x", width, ", ", heads,
                  " heads of ", head, cosine ? ", cosine" : "", biases ? ", biases" : "",
                  w.mask.defined() ? ", mask" : "", w.rotary.defined() ? ", rotary" : "",
                  norm ? "" : ", no norm", residual.defined() ? ", residual" : "");
  one.run = [=] { return attention(x, s, w, residual); };
  return one;
}
Case any_attention(std::mt19937& luck) { return attention_case(luck, false); }
Case full_attention(std::mt19937& luck) { return attention_case(luck, true); }

Case feed_forward_case(std::mt19937& luck, bool fixed) {
  const int64_t width = between(luck, 3, 70), hidden = between(luck, 1, 90);
  const int64_t rows = between(luck, 1, 400);
  FeedForwardWeights w;
  w.gated = fixed || coin(luck);
  const int64_t maps = w.gated ? 2 * hidden : hidden;
  w.norm_weight = weight({width});
  w.in = weight({maps, width}, 0.3);
  w.out = weight({width, hidden}, 0.3);
  const at::Tensor x = weight({rows, width});
  Case one{str("feed forward ", rows, "x", width, ", ", hidden, w.gated ? " gated" : ""),
           {x, w.norm_weight, w.in, w.out},
           {}};
  if (fixed || coin(luck)) {
    w.norm_bias = weight({width});
    w.in_bias = weight({maps});
    w.out_bias = weight({width});
    for (const at::Tensor& bias : {w.norm_bias, w.in_bias, w.out_bias}) one.inputs.push_back(bias);
  }
  one.run = [=] { return feed_forward(x, w); };
  return one;
}
Case any_feed_forward(std::mt19937& luck) { return feed_forward_case(luck, false); }
Case full_feed_forward(std::mt19937& luck) { return feed_forward_case(luck, true); }

Case depthwise_case(std::mt19937& luck) {
  const int64_t channels = between(luck, 1, 70);
  const at::Tensor x = weight({between(luck, 1, 3), between(luck, 1, 6), between(luck, 1, 6),
                               between(luck, 1, 6), channels});
  const at::Tensor taps = weight({channels, 1, 3, 3, 3}), bias = weight({channels});
  return {lf::str("depthwise ", x.sizes()), {x, taps, bias}, [=] {
            return causal_depthwise(x, taps, bias);
          }};
}

TEST(AttentionKernel, EqualsItsReference) { expect_equals_reference(any_attention, 25); }
TEST(AttentionKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(any_attention); }
TEST(AttentionKernel, IsNoWorseThanAutocast) { expect_no_worse_than_autocast(full_attention, 20); }
TEST(AttentionKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(any_attention); }

TEST(AttentionKernel, TakesLongSequences) {
  std::mt19937 luck(3);
  for (const int64_t tokens : {kMostTokens, kMostTokens + 1}) {  // the second goes to the reference
    AttentionWeights w;
    w.heads = 2;
    w.norm_weight = weight({16});
    w.query = weight({16, 16}, 0.3);
    w.key_value = weight({32, 16}, 0.3);
    w.out = weight({16, 16}, 0.3);
    const at::Tensor x = weight({2, tokens, 3, 16});
    const Case one{"long", {x, w.query, w.key_value, w.out}, [&] {
                     return attention(x, {2, tokens, 3}, w);
                   }};
    const Tensors truth = results(one, Form::kReference), found = results(one, Form::kFused);
    for (size_t k = 0; k < truth.size(); ++k)
      EXPECT_LT(gap(found[k], truth[k]), k == 0 ? 1e-5 : 1e-4);
  }
}

// What a masked token holds cannot be seen, not even in the last bit.
TEST(AttentionKernel, MaskedTokensLeaveNoTrace) {
  std::mt19937 luck(4);
  const int64_t tokens = 7, width = 24;
  AttentionWeights w;
  w.heads = 2;
  w.scale = 8;
  w.norm_weight = weight({width});
  w.query = weight({32, width}, 0.3);
  w.key_value = weight({64, width}, 0.3);
  w.out = weight({width, 32}, 0.3);
  w.query_scale = weight({16});
  w.key_scale = weight({16});
  const at::Tensor time = at::arange(tokens);
  w.bias = at::zeros({2, tokens, tokens})
               .masked_fill(time.unsqueeze(1) < time, -std::numeric_limits<float>::infinity());
  const at::Tensor x = at::randn({3, tokens, 5, width});
  at::Tensor other = x.clone();
  other.slice(1, 4).normal_();
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(attention(x, {3, tokens, 5}, w).slice(1, 0, 4),
                        attention(other, {3, tokens, 5}, w).slice(1, 0, 4)));
}

// Rows in bfloat16, as a network's activations may be: in and out, summed in single precision.
TEST(TransformerKernels, TakeRowsInBfloat16) {
  std::mt19937 luck(9);
  const Case one = full_feed_forward(luck);
  const at::Tensor x = one.inputs[0].detach().to(at::kBFloat16).requires_grad_();
  FeedForwardWeights w{one.inputs[1], one.inputs[4], one.inputs[2], one.inputs[5],
                       one.inputs[3], one.inputs[6], true};
  const Case half{"half", {x, w.in, w.out}, [&] { return feed_forward(x, w); }};
  const at::Tensor same = x.detach().to(at::kFloat).requires_grad_();
  const Case whole{"whole", {same, w.in, w.out}, [&] { return feed_forward(same, w); }};
  const Tensors found = results(half, Form::kFused), truth = results(whole, Form::kReference);
  EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(found[1].scalar_type(), at::kBFloat16);
  for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 0.02) << k;
}

TEST(FeedForwardKernel, EqualsItsReference) { expect_equals_reference(any_feed_forward, 25); }
TEST(FeedForwardKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(any_feed_forward); }
TEST(FeedForwardKernel, IsNoWorseThanAutocast) {
  expect_no_worse_than_autocast(full_feed_forward, 20);
}
TEST(FeedForwardKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(any_feed_forward); }

TEST(DepthwiseKernel, EqualsItsReference) { expect_equals_reference(depthwise_case, 25); }
TEST(DepthwiseKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(depthwise_case); }
TEST(DepthwiseKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(depthwise_case); }

}  // namespace
}  // namespace lf
