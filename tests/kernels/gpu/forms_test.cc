// The operations' GPU forms without a GPU: the plugin's kernels are compiled as C++ and run on the
// host thread by thread (emulation/), cuBLAS's products are the CPU's. Index arithmetic, barriers
// and the forms' gradients are tested here, rounding and speed on a device (tests/gpu).
#include "kernels/forms.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include "kernels/nearest_code.h"
#include "tests/kernels/emulation/emulated_operations.h"
#include "tests/kernels/operation_cases.h"

namespace lf {
namespace {

class DeviceForms : public testing::Test {
 protected:
  void SetUp() override { use_device(&emulated_device()); }
  void TearDown() override { use_device(nullptr); }

  static void expect_equals(Case (*make)(std::mt19937&), const char* name) {
    std::mt19937 generator = generator_of(5);
    expect_equals_reference_here(make, generator, 12, name);
    expect_keeps_what_is_not_finite(make);
  }
};

TEST_F(DeviceForms, OfNormEqualsItsReference) { expect_equals(any_norm, "norm"); }
TEST_F(DeviceForms, OfAttentionEqualsItsReference) { expect_equals(any_attention, "attention"); }
TEST_F(DeviceForms, OfLinearAttentionEqualsItsReference) {
  expect_equals(any_linear_attention, "linear attention");
}
TEST_F(DeviceForms, OfFeedForwardEqualsItsReference) {
  expect_equals(any_feed_forward, "feed forward");
}
TEST_F(DeviceForms, OfDepthwiseEqualsItsReference) { expect_equals(depthwise_case, "depthwise"); }

TEST_F(DeviceForms, AreNoWorseThanAutocast) {
  expect_no_worse_than_autocast(full_attention, 10);
  expect_no_worse_than_autocast(full_linear_attention, 10);
  expect_no_worse_than_autocast(full_feed_forward, 10);
}

// Rows that no lane has to itself, images of many slices, sequences of 64 tokens.
TEST_F(DeviceForms, TakeWhatIsLarge) {
  at::manual_seed(2);
  for (const int64_t channels : {513, 1024}) {
    for (const int64_t groups : {int64_t{0}, channels / 27}) {
      if (groups > 0 && channels % groups != 0) continue;
      const at::Tensor x = weight({2, 70, channels}), gain = weight({2, channels}),
                       shift = weight({2, channels});
      const Case one{"", {x, gain, shift}, [&](const KernelChoice& kernels) {
                       return norm_silu(kernels, x, {groups}, gain, shift);
                     }};
      const Tensors truth = results(one, kPlain), found = results(one, kFused);
      for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 1e-5) << k;
    }
  }
  AttentionWeights w;
  w.heads = 1;
  w.norm_weight = weight({16});
  w.query = weight({40, 16}, 0.3);
  w.key_value = weight({80, 16}, 0.3);
  w.out = weight({16, 40}, 0.3);
  const at::Tensor x = weight({1, kMostTokens, 3, 16});
  const Sequences s{1, kMostTokens, 3};
  ASSERT_TRUE(gpu::takes_attention(x, s, w));
  const Case one{"", {x, w.query, w.key_value, w.out}, [&](const KernelChoice& kernels) {
                   return attention(kernels, x, s, w);
                 }};
  const Tensors truth = results(one, kPlain), found = results(one, kFused);
  for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 1e-4) << k;
  EXPECT_FALSE(gpu::takes_attention(x, {1, kMostTokens + 1, 3}, w));
}

TEST_F(DeviceForms, FindTheNearestCode) {
  std::mt19937 generator = generator_of(4);
  for (int i = 0; i < 8; ++i) {
    const int64_t count = between(generator, 1, 300), dim = between(generator, 1, 40);
    const at::Tensor rows = at::randn({count, dim}),
                     codes = at::randn({between(generator, 1, 500), dim});
    const at::Tensor ids = nearest_code(kFused, rows, codes);
    const at::Tensor squares = (rows.unsqueeze(1) - codes).square().sum(2);
    const at::Tensor least = std::get<0>(squares.min(1));
    const at::Tensor mine = squares.gather(1, ids.unsqueeze(1)).squeeze(1);
    EXPECT_LT((mine - least).max().item<double>(), 1e-4 * static_cast<double>(dim));
  }
  const at::Tensor codes = at::randn({150, 8});
  EXPECT_TRUE(at::equal(nearest_code(kFused, codes, at::cat({codes, codes})), at::arange(150)));
}

}  // namespace
}  // namespace lf
