// The fused operations on a GPU: against their plain forms there, in bf16 against fp32, and twice
// with the same bits. Without a GPU every test here is skipped.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include "kernels/nearest_code.h"
#include "tests/gpu/gpu_fixture.h"
#include "tests/kernels/operation_cases.h"

namespace lf {
namespace {

class GpuKernels : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (device().kernels() == nullptr) GTEST_SKIP() << "the plugin was built without nvcc";
    device_of_cases() = at::Device(at::kCUDA, 0);
    ASSERT_EQ(target_of(kFused, Operation::kNormSilu, normal({1})), Target::kGpu);
    at::manual_seed(1);
  }
  void TearDown() override { device_of_cases() = at::kCPU; }
};

// Wider rows and larger images than on the CPU: every number of lanes and of slices.
Case wide_norm(std::mt19937& random) {
  const int64_t groups = coin(random) ? 0 : int64_t{1} << between(random, 0, 4);
  const int64_t channels =
      groups > 0 ? groups * between(random, 1, 1024 / groups) : 4 * between(random, 1, 256);
  const int64_t images = between(random, 1, 4), places = between(random, 1, 700);
  const at::Tensor x = at::add(weight({images, places, channels}), 3).detach().requires_grad_();
  const at::Tensor gain = weight({images, channels}), shift = weight({images, channels});
  const NormKind kind{groups, 1e-5, coin(random)};
  return {lf::str("norm ", x.sizes(), ", groups ", groups, kind.silu ? ", silu" : ""),
          {x, gain, shift},
          [=](const KernelChoice& kernels) { return norm_silu(kernels, x, kind, gain, shift); }};
}

// As networks have them: 64 tokens at most, heads of 32 or 64. At least two tokens, as the
// gradients of a single one are rounding errors.
Case long_attention(std::mt19937& random) {
  const int64_t heads = 2, head = 32 * between(random, 1, 2), width = 4 * between(random, 10, 40);
  const Sequences s{between(random, 1, 2), between(random, 2, kMostTokens), between(random, 1, 40)};
  AttentionWeights w;
  w.heads = heads;
  w.scale = 0.2;
  w.norm_weight = weight({width});
  w.query = weight({heads * head, width}, 0.2);
  w.key_value = weight({2 * heads * head, width}, 0.2);
  w.out = weight({width, heads * head}, 0.2);
  w.bias = weight({heads, s.tokens, s.tokens});
  const at::Tensor x = weight({s.outer, s.tokens, s.inner, width});
  return {lf::str("attention ", x.sizes(), ", heads of ", head),
          {x, w.norm_weight, w.query, w.key_value, w.out, w.bias},
          [=](const KernelChoice& kernels) { return attention(kernels, x, s, w); }};
}

Case wide_linear_attention(std::mt19937& random) {
  const int64_t heads = 2, head = 8 * between(random, 1, 8), width = between(random, 30, 100);
  LinearAttentionWeights w;
  w.heads = heads;
  w.scale = 0.2;
  w.norm_weight = weight({width});
  w.query_key_value = weight({3 * heads * head, width}, 0.3);
  w.out = weight({width, heads * head}, 0.3);
  const at::Tensor x = weight({between(random, 1, 3), between(random, 1, 1500), width});
  return {lf::str("linear attention ", x.sizes(), ", heads of ", head),
          {x, w.norm_weight, w.query_key_value, w.out},
          [=](const KernelChoice& kernels) { return linear_attention(kernels, x, w); }};
}

struct Cases {
  const char* name;
  MakeCase make;
};
const std::vector<Cases>& all_cases() {
  static const std::vector<Cases> all = {
      {"norm", any_norm},
      {"wide norm", wide_norm},
      {"attention", any_attention},
      {"long attention", long_attention},
      {"linear attention", any_linear_attention},
      {"wide linear attention", wide_linear_attention},
      {"feed forward", any_feed_forward},
      {"depthwise", depthwise_case},
  };
  return all;
}

TEST_F(GpuKernels, EqualTheirReferences) {
  for (const Cases& cases : all_cases()) {
    std::mt19937 random(5);
    expect_equals_reference_here(cases.make, random, 25, cases.name);
  }
}

// The short form, which compute-sanitizer watches.
TEST_F(GpuKernels, RunOnceEach) {
  std::mt19937 random(7);
  for (const Cases& cases : all_cases()) {
    expect_equals_reference_here(cases.make, random, 1, cases.name);
  }
  const at::Tensor codes = normal({70, 8});
  EXPECT_TRUE(at::equal(nearest_code(kFused, codes, codes).cpu(), at::arange(70)));
}

TEST_F(GpuKernels, HaveTheSameBitsASecondTime) {
  for (const Cases& cases : all_cases()) {
    std::mt19937 random(6);
    for (int i = 0; i < 10; ++i) {
      const Case one = cases.make(random);
      const Tensors first = results(one, kFused), second = results(one, kFused);
      for (size_t k = 0; k < first.size(); ++k) {
        EXPECT_TRUE(at::equal(first[k], second[k])) << one.shape << " result " << k;
      }
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(first[0], one.run(kFused))) << one.shape << " without gradients";
    }
  }
}

TEST_F(GpuKernels, AreNoWorseThanAutocast) {
  expect_no_worse_than_autocast(full_attention, 20);
  expect_no_worse_than_autocast(full_linear_attention, 20);
  expect_no_worse_than_autocast(full_feed_forward, 20);
}

TEST_F(GpuKernels, TakeRowsInBf16) {
  for (const Cases& cases : all_cases()) {
    if (std::string(cases.name).find("norm") == std::string::npos &&
        std::string(cases.name) != "depthwise") {
      continue;
    }
    std::mt19937 random(2);
    for (int i = 0; i < 10; ++i) {
      const Case fp32 = cases.make(random);
      const Tensors truth = results(fp32, kPlain);
      at::Tensor& x = const_cast<at::Tensor&>(fp32.inputs[0]);
      const at::Tensor rounded = x.detach().to(at::kBFloat16);
      x.set_data(rounded);
      const Tensors found = results(fp32, kFused);
      EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
      for (size_t k = 0; k < truth.size(); ++k) {
        EXPECT_LT(gap(found[k], truth[k]), 0.05) << fp32.shape << " result " << k;
      }
    }
  }
}

TEST_F(GpuKernels, KeepWhatIsNotFinite) {
  for (const Cases& cases : all_cases()) expect_keeps_what_is_not_finite(cases.make);
}

TEST_F(GpuKernels, LeaveTooLargeShapesToTheReference) {
  std::mt19937 random(3);
  AttentionWeights w;
  w.heads = 2;
  w.norm_weight = weight({16});
  w.query = weight({16, 16}, 0.3);
  w.key_value = weight({32, 16}, 0.3);
  w.out = weight({16, 16}, 0.3);
  const at::Tensor x = weight({2, kMostTokens + 1, 3, 16});
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(attention(kFused, x, {2, kMostTokens + 1, 3}, w),
                        attention_reference(kFused, x, {2, kMostTokens + 1, 3}, w)));
  const at::Tensor wide = normal({2, 3, 1500}), gain = normal({1, 1500});
  EXPECT_TRUE(at::equal(norm_silu(kFused, wide, {}, gain, gain),
                        norm_silu_reference(wide, {}, gain, gain)));
}

TEST_F(GpuKernels, FindTheNearestCode) {
  std::mt19937 random(4);
  for (int i = 0; i < 30; ++i) {
    const int64_t count = between(random, 1, 600), dim = between(random, 1, 150);
    const at::Tensor rows = normal({count, dim}), codes = normal({between(random, 1, 2000), dim});
    const at::Tensor ids = nearest_code(kFused, rows, codes);
    const at::Tensor squares = (rows.unsqueeze(1) - codes).square().sum(2);
    const at::Tensor least = std::get<0>(squares.min(1));
    const at::Tensor mine = squares.gather(1, ids.unsqueeze(1)).squeeze(1);
    EXPECT_LT((mine - least).max().item<double>(), 1e-4 * static_cast<double>(dim))
        << count << " " << dim;
    EXPECT_TRUE(at::equal(ids, nearest_code(kFused, rows, codes)));
  }
  const at::Tensor codes = normal({700, 8});
  EXPECT_TRUE(at::equal(nearest_code(kFused, codes, at::cat({codes, codes, codes})).cpu(),
                        at::arange(700)));
}

TEST_F(GpuKernels, CanBeRecorded) {
  std::mt19937 random(9);
  for (const Cases& cases : all_cases()) {
    const Case one = cases.make(random);
    const at::NoGradGuard no_grad;
    const at::Tensor truth = one.run(kFused);
    at::Tensor found = at::empty_like(truth);
    const std::unique_ptr<RecordedStep> recorded =
        device().record([&] { found.copy_(one.run(kFused)); }, 1);
    found.zero_();
    recorded->replay();
    EXPECT_TRUE(at::equal(found, truth)) << one.shape;
  }
}

}  // namespace
}  // namespace lf
