// The halves of transformers' layers and the position generator.
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include "operation_cases.h"

namespace lf {
namespace {

TEST(AttentionKernel, EqualsItsReference) { expect_equals_reference(any_attention, 25); }
TEST(AttentionKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(any_attention); }
TEST(AttentionKernel, IsNoWorseThanAutocast) { expect_no_worse_than_autocast(full_attention, 20); }
TEST(AttentionKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(any_attention); }

TEST(AttentionKernel, TakesLongSequences) {
  at::manual_seed(3);
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
TEST(LongAttentionKernel, EqualsItsReference) { expect_equals_reference(any_long_attention, 15); }
TEST(LongAttentionKernel, HasTheSameBitsOnAnyNumberOfThreads) {
  expect_equal_bits(any_long_attention);
}
TEST(LongAttentionKernel, IsNoWorseThanAutocast) {
  expect_no_worse_than_autocast(any_long_attention, 20);
}
TEST(LongAttentionKernel, KeepsWhatIsNotFinite) {
  expect_keeps_what_is_not_finite(any_long_attention);
}

// Scores far from zero: a block of keys may hold nothing that counts beside the next one's.
TEST(LongAttentionKernel, TakesScoresOfAnySize) {
  luck_of(11);
  const at::Tensor q = normal({1, 2, 300, 8}) * 20, k = normal(q.sizes()) * 20,
                   v = normal(q.sizes());
  const at::Tensor scores = at::matmul(q.to(at::kDouble), k.to(at::kDouble).mT());
  const at::Tensor truth = at::matmul(at::softmax(scores, -1), v.to(at::kDouble));
  EXPECT_LT(gap(attend(q, k, v, {}, 1.0), truth), 1e-3);
}

TEST(AttentionKernel, MaskedTokensLeaveNoTrace) {
  at::manual_seed(4);
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
  std::mt19937 luck = luck_of(9);
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
