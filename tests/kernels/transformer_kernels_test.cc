// The halves of transformers' layers and the position generator.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <limits>

#include "kernels/token_layer.h"
#include "tests/kernels/operation_cases.h"

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
    const Case one{"long", {x, w.query, w.key_value, w.out}, [&](const KernelChoice& kernels) {
                     return attention(kernels, x, {2, tokens, 3}, w);
                   }};
    const Tensors truth = results(one, kPlain), found = results(one, kFused);
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
  generator_of(11);
  const at::Tensor q = normal({1, 2, 300, 8}) * 20, k = normal(q.sizes()) * 20,
                   v = normal(q.sizes());
  const at::Tensor scores = at::matmul(q.to(at::kDouble), k.to(at::kDouble).mT());
  const at::Tensor truth = at::matmul(at::softmax(scores, -1), v.to(at::kDouble));
  EXPECT_LT(gap(attend(kFused, q, k, v, {}, 1.0), truth), 1e-3);
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
  EXPECT_TRUE(at::equal(attention(kFused, x, {3, tokens, 5}, w).slice(1, 0, 4),
                        attention(kFused, other, {3, tokens, 5}, w).slice(1, 0, 4)));
}

// Rows in bf16, as a network's activations may be: in and out, summed in single precision.
TEST(TransformerKernels, TakeRowsInBfloat16) {
  std::mt19937 generator = generator_of(9);
  const Case one = full_feed_forward(generator);
  const at::Tensor x = one.inputs[0].detach().to(at::kBFloat16).requires_grad_();
  FeedForwardWeights w{one.inputs[1], one.inputs[4], one.inputs[2], one.inputs[5],
                       one.inputs[3], one.inputs[6], true};
  const Case rows_in_bf16{"bf16", {x, w.in, w.out}, [&](const KernelChoice& kernels) {
                            return feed_forward(kernels, x, w);
                          }};
  const at::Tensor same = x.detach().to(at::kFloat).requires_grad_();
  const Case whole{"whole", {same, w.in, w.out}, [&](const KernelChoice& kernels) {
                     return feed_forward(kernels, same, w);
                   }};
  const Tensors found = results(rows_in_bf16, kFused), truth = results(whole, kPlain);
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

// One token of each sequence behind some that are settled: outputs, what joins the cache, and bits.
TEST(TokenLayerKernel, EqualsItsReferenceWithTheSameBitsOnAnyNumberOfThreads) {
  std::mt19937 generator = generator_of(31);
  const at::NoGradGuard no_grad;
  const int before = at::get_num_threads();
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    for (int i = 0; i < 25; ++i) {
      const int64_t heads = between(generator, 1, 4), wide = heads * between(generator, 1, 40),
                    hidden = between(generator, 1, 200), rows = between(generator, 4, 40),
                    places = between(generator, 1, 70), length = between(generator, 0, places - 1);
      const auto matrix = [](int64_t out, int64_t in) {
        return at::randn({out, in}) / std::sqrt(static_cast<double>(in));
      };
      const TokenLayerWeights weights{at::randn({wide}),
                                      at::randn({wide}),
                                      matrix(3 * wide, wide),
                                      at::randn({3 * wide}),
                                      matrix(wide, wide),
                                      at::randn({wide}),
                                      at::randn({wide}),
                                      at::randn({wide}),
                                      matrix(hidden, wide),
                                      at::randn({hidden}),
                                      matrix(wide, hidden),
                                      at::randn({wide}),
                                      heads,
                                      1e-5};
      const at::Tensor x = at::randn({rows, 1, wide}),
                       keys = at::randn({rows, heads, places, wide / heads}),
                       values = at::randn({rows, heads, places, wide / heads});
      const auto run = [&](const KernelChoice& kernels, int threads) {
        at::set_num_threads(threads);
        const TokenCache cache{keys.clone(), values.clone(), length};
        const at::Tensor y = token_layer(kernels, x, weights, {}, &cache);
        return Tensors{y, cache.keys, cache.values};
      };
      const Tensors truth = run(kPlain, 1), found = run(kFused, 1), again = run(kFused, 2);
      for (size_t k = 0; k < truth.size(); ++k) {
        EXPECT_LT(gap(found[k], truth[k]), 1e-5) << k << " " << x.sizes() << " " << length;
        EXPECT_TRUE(at::equal(found[k], again[k])) << k << " " << x.sizes();
      }
      EXPECT_FALSE(at::equal(found[0], truth[0])) << "the fused form did not run";
    }
  }
  at::set_num_threads(before);
}

// What is no number is not taken for one.
TEST(TokenLayerKernel, KeepsWhatIsNoNumber) {
  const at::NoGradGuard no_grad;
  const auto matrix = [](int64_t out, int64_t in) { return at::full({out, in}, 0.1F); };
  const at::Tensor one = at::ones({16});
  const TokenLayerWeights weights{one, one, matrix(48, 16), at::ones({48}), matrix(16, 16), one,
                                  one, one, matrix(32, 16), at::ones({32}), matrix(16, 32), one,
                                  2,   1e-5};
  const TokenCache cache{at::ones({4, 2, 8, 8}), at::ones({4, 2, 8, 8}), 3};
  cache.keys[1][0][2][5] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor bad =
      token_layer(kFused, at::ones({4, 1, 16}), weights, {}, &cache).isnan().any(-1);
  EXPECT_TRUE(at::equal(bad.flatten(), at::tensor(std::vector<int64_t>{0, 1, 0, 0}).to(at::kBool)));
}

}  // namespace
}  // namespace lf
