// What codebooks and U-Nets use.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>

#include "base/error.h"
#include "kernels/convolution.h"
#include "kernels/cpu/products.h"
#include "kernels/nearest_code.h"
#include "kernels/skinny_matmul.h"
#include "tests/kernels/operation_cases.h"

namespace lf {
namespace {

TEST(NormSiluKernel, EqualsItsReference) { expect_equals_reference(any_norm, 25); }
TEST(NormSiluKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(any_norm); }
TEST(NormSiluKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(any_norm); }

TEST(NormSiluKernel, TakesBfloat16) {
  std::mt19937 generator = generator_of(2);
  for (int i = 0; i < 10; ++i) {
    const int64_t groups = i % 2 == 0 ? 0 : 2, channels = 2 * between(generator, 4, 30);
    const at::Tensor x = at::randn({4, 30, channels}).to(at::kBFloat16).requires_grad_();
    const at::Tensor same = x.detach().to(at::kFloat).requires_grad_();
    const at::Tensor gain = weight({2, channels}), shift = weight({2, channels});
    const auto of = [&](const at::Tensor& rows) {
      return Case{"norm", {rows, gain, shift}, [&, rows](const KernelChoice& kernels) {
                    return norm_silu(kernels, rows, {groups}, gain, shift);
                  }};
    };
    const Tensors found = results(of(x), kFused), truth = results(of(same), kPlain);
    EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
    for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 0.02) << k;
  }
}

TEST(LinearAttentionKernel, EqualsItsReference) {
  expect_equals_reference(any_linear_attention, 25);
}
TEST(LinearAttentionKernel, HasTheSameBitsOnAnyNumberOfThreads) {
  expect_equal_bits(any_linear_attention);
}
TEST(LinearAttentionKernel, IsNoWorseThanAutocast) {
  expect_no_worse_than_autocast(full_linear_attention, 20);
}
TEST(LinearAttentionKernel, KeepsWhatIsNotFinite) {
  expect_keeps_what_is_not_finite(any_linear_attention);
}

// Within images, or over the frames of clips.
Case convolution_case(std::mt19937& generator) {
  const bool volume = coin(generator);
  const int64_t in = between(generator, 8, volume ? 24 : 70), out = between(generator, 8, 70);
  const int64_t frames = volume ? between(generator, 1, 9) : 1,
                images = frames * between(generator, 1, 6);
  const at::Tensor x = weight({images, between(generator, 1, 9), between(generator, 1, 9), in});
  const at::Tensor filters = weight({out, volume ? 3 * in : in, 3, 3}, 0.2);
  Case one{lf::str("convolution ", x.sizes(), " to ", out, volume ? ", clips of " : "",
                   volume ? lf::str(frames) : ""),
           {x, filters},
           {}};
  at::Tensor bias;
  if (coin(generator)) one.inputs.push_back(bias = weight({out}));
  one.run = [=](const KernelChoice& kernels) {
    return convolution(kernels, x.permute({0, 3, 1, 2}), filters, bias, frames);
  };
  return one;
}

TEST(ConvolutionKernel, EqualsItsReference) { expect_equals_reference(convolution_case, 25); }
TEST(ConvolutionKernel, HasTheSameBitsOnAnyNumberOfThreads) { expect_equal_bits(convolution_case); }
TEST(ConvolutionKernel, KeepsWhatIsNotFinite) { expect_keeps_what_is_not_finite(convolution_case); }

TEST(ConvolutionKernel, TakesBfloat16) {
  std::mt19937 generator = generator_of(11);
  for (int i = 0; i < 10; ++i) {
    const int64_t in = between(generator, 8, 70), out = between(generator, 8, 70),
                  side = between(generator, 3, 9);
    const at::Tensor filters = weight({out, in, 3, 3}, 0.2), bias = weight({out});
    const at::Tensor x = at::randn({5, side, side, in}).to(at::kBFloat16).requires_grad_();
    const at::Tensor same = x.detach().to(at::kFloat).requires_grad_();
    const auto of = [&](const at::Tensor& images) {
      return Case{"convolution", {images, filters, bias}, [&, images](const KernelChoice& kernels) {
                    return convolution(kernels, images.permute({0, 3, 1, 2}), filters, bias);
                  }};
    };
    const Bf16Autocast autocast;
    const Tensors found = results(of(x), kFused);
    EXPECT_EQ(found[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(found[1].scalar_type(), at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    const Tensors truth = results(of(same), kPlain);
    for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 0.02) << k;
  }
}

// Images of a network's size, and an input that takes no gradient.
TEST(ConvolutionKernel, TakesManyImagesAndConstantOnes) {
  const at::Tensor x = weight({9, 32, 32, 24}), filters = weight({40, 24, 3, 3}, 0.1),
                   bias = weight({40});
  for (const bool constant : {false, true}) {
    const at::Tensor images = (constant ? x.detach() : x).permute({0, 3, 1, 2});
    Case one{"many", {filters, bias}, [=](const KernelChoice& kernels) {
               return convolution(kernels, images, filters, bias);
             }};
    if (!constant) one.inputs.push_back(x);
    const Tensors truth = results(one, kPlain), found = results(one, kFused);
    for (size_t k = 0; k < truth.size(); ++k) EXPECT_LT(gap(found[k], truth[k]), 1e-5) << k;
  }
}

TEST(SkinnyMatmulKernel, EqualsItsReferenceWithTheSameBitsOnAnyNumberOfThreads) {
  std::mt19937 generator = generator_of(12);
  const at::NoGradGuard no_grad;
  const int before = at::get_num_threads();
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    for (int i = 0; i < 40; ++i) {
      const int64_t depth = between(generator, 1, 300), features = between(generator, 1, 600);
      const at::Tensor x = at::randn({between(generator, 1, 9), between(generator, 1, 9), depth});
      const at::Tensor map = at::randn({features, depth});
      const at::Tensor bias = coin(generator) ? at::randn({features}) : at::Tensor();
      at::set_num_threads(1);
      const at::Tensor alone = linear_map(kFused, x, map, bias);
      at::set_num_threads(2);
      EXPECT_TRUE(at::equal(alone, linear_map(kFused, x, map, bias)))
          << x.sizes() << " " << features;
      EXPECT_LT(gap(alone, linear_map_reference(x, map, bias)), 1e-5)
          << x.sizes() << " " << features;
    }
  }
  at::set_num_threads(before);
}

// Of what is learnt from: gradients, and gradients of the squares of gradients, as a penalty has
// them.
at::Tensor second_gradients(const at::Tensor& y, const at::Tensor& x, const at::Tensor& map,
                            const at::Tensor& bias) {
  const std::vector<at::Tensor> first =
      torch::autograd::grad({y.square().sum()}, {x, map, bias}, {}, true, true);
  const at::Tensor penalty = first[0].square().sum() + first[1].square().sum();
  std::vector<at::Tensor> all = torch::autograd::grad({penalty}, {x, map, bias});
  all.insert(all.end(), first.begin(), first.end());
  for (at::Tensor& one : all) one = one.detach().flatten() / one.detach().abs().max();
  return at::cat(all);
}

TEST(SkinnyMatmulKernel, HasTheGradientsOfItsReferenceAndTheirGradients) {
  std::mt19937 generator = generator_of(13);
  const int before = at::get_num_threads();
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    for (int i = 0; i < 20; ++i) {
      const int64_t depth = 16 * between(generator, 1, 90), features = between(generator, 1, 300);
      const at::Tensor x = at::randn({between(generator, 4, 64), depth}).requires_grad_();
      const at::Tensor map = (at::randn({features, depth}) / 8).requires_grad_();
      const at::Tensor bias = at::randn({features}).requires_grad_();
      const at::Tensor truth = second_gradients(linear_map_reference(x, map, bias), x, map, bias);
      at::set_num_threads(1);
      const at::Tensor alone = second_gradients(linear_map(kFused, x, map, bias), x, map, bias);
      at::set_num_threads(2);
      EXPECT_TRUE(
          at::equal(alone, second_gradients(linear_map(kFused, x, map, bias), x, map, bias)))
          << x.sizes() << " " << features;
      EXPECT_LT(gap(alone, truth), 1e-4) << x.sizes() << " " << features;
    }
  }
  at::set_num_threads(before);
}

TEST(NearestCodeKernel, FindsTheNearest) {
  std::mt19937 generator = generator_of(4);
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    for (int i = 0; i < 30; ++i) {
      const int64_t count = between(generator, 1, 300), dim = between(generator, 1, 40);
      const at::Tensor rows = at::randn({count, dim}),
                       codes = at::randn({between(generator, 1, 700), dim});
      const at::Tensor ids = nearest_code(kFused, rows, codes);
      const at::Tensor squares = (rows.unsqueeze(1) - codes).square().sum(2);
      const at::Tensor least = std::get<0>(squares.min(1));
      const at::Tensor mine = squares.gather(1, ids.unsqueeze(1)).squeeze(1);
      EXPECT_LT((mine - least).max().item<double>(), 1e-4 * dim) << count << " " << dim;
    }
  }
}

TEST(NearestCodeKernel, TakesTheFirstOfEquals) {
  const at::Tensor codes = at::randn({40, 8});
  const at::Tensor twice = at::cat({codes, codes});
  EXPECT_TRUE(at::equal(nearest_code(kFused, codes, twice), at::arange(40)));
}

TEST(NearestCodeKernel, HasTheSameBitsOnAnyNumberOfThreads) {
  const at::Tensor rows = at::randn({1000, 16}), codes = at::randn({513, 16});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor alone = nearest_code(kFused, rows, codes);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(alone, nearest_code(kFused, rows, codes)));
  at::set_num_threads(before);
}

// Against LibTorch's, any strides, every width of vectors.
TEST(Products, EqualMatrixProducts) {
  std::mt19937 generator = generator_of(3);
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    for (int i = 0; i < 60; ++i) {
      const int64_t rows = between(generator, 1, 40), depth = between(generator, 1, 50);
      const int64_t columns = 16 * between(generator, 1, 7);
      const bool turned = coin(generator), add = coin(generator);
      const at::Tensor a = turned ? at::randn({depth, rows}).t() : at::randn({rows, depth});
      const at::Tensor b = at::randn({depth, columns});
      at::Tensor c = at::randn({rows, columns});
      const at::Tensor expected = add ? c + a.matmul(b) : a.matmul(b);
      Left left{a.const_data_ptr<float>(), a.stride(0), a.stride(1)};
      Right right{b.const_data_ptr<float>(), columns};
      const Product product{rows, columns, depth, c.mutable_data_ptr<float>(), columns, add};
      const at::Tensor before = c.clone();
      multiply(Operands::kSingle, left, right, product);
      EXPECT_LT(gap(c, expected), 1e-6) << rows << " " << columns << " " << depth;
      if (operands_here(Operands::kBf16) != Operands::kBf16) continue;
      std::vector<Bf16> first(bf16_left_size(rows, depth)), second(bf16_right_size(depth, columns));
      left.bf16 = bf16_left(left, rows, depth, first.data());
      right.bf16 = bf16_right(right, depth, columns, second.data());
      c.copy_(before);
      multiply(Operands::kBf16, left, right, product);
      EXPECT_LT(gap(c, expected), 1e-2) << rows << " " << columns << " " << depth;
      // `b` out of its turned tile [columns][depth], whose columns are whole vectors.
      const int64_t width = columns - between(generator, 0, 15), whole = (depth + 15) / 16 * 16;
      const at::Tensor tile = at::zeros({width, whole + 16});
      tile.slice(1, 0, depth).copy_(b.slice(1, 0, width).t());
      std::vector<Bf16> transposed_bf16(bf16_right_size(whole, columns));
      const at::Tensor deep = at::constant_pad_nd(a, {0, whole - depth}).contiguous();
      std::vector<Bf16> deep_bf16(bf16_left_size(rows, whole));
      Left wide_left{deep.const_data_ptr<float>(), whole};
      wide_left.bf16 = bf16_left(wide_left, rows, whole, deep_bf16.data());
      const Right from_tile{nullptr, columns,
                            bf16_transposed_right({tile.const_data_ptr<float>(), whole + 16}, width,
                                                  whole, transposed_bf16.data())};
      c.copy_(before);
      multiply(Operands::kBf16, wide_left, from_tile,
               {rows, columns, whole, product.out, columns, add});
      EXPECT_LT(gap(c.slice(1, 0, width), expected.slice(1, 0, width)), 1e-2)
          << rows << " " << columns << " " << depth << " " << width;
      EXPECT_TRUE(at::equal(c.slice(1, width), (add ? before : before * 0).slice(1, width)))
          << "padding of " << width;
    }
  }
}

// They would come as constants without a word, and a penalty on gradients would train nothing.
TEST(Dispatch, GradientsOfGradientsAreRefusedWhereThereAreNone) {
  std::mt19937 generator = generator_of(8);
  for (const MakeCase& make : {MakeCase(any_norm), MakeCase(any_linear_attention),
                               MakeCase(any_attention), MakeCase(any_feed_forward)}) {
    const Case one = make(generator);
    const at::Tensor y = one.run(kFused);
    EXPECT_THROW(torch::autograd::grad({y}, one.inputs, {at::ones_like(y)}, true, true), Error)
        << one.shape;
    EXPECT_EQ(torch::autograd::grad({y}, one.inputs, {at::ones_like(y)}).size(), one.inputs.size());
  }
}

TEST(Dispatch, ReferenceTurnsEveryKernelOff) {
  const at::Tensor x = at::randn({2, 3});
  for (size_t i = 0; i < operation_table().size(); ++i) {
    const auto operation = static_cast<Operation>(i);
    EXPECT_NE(target_of(kFused, operation, x), Target::kPlain) << operation_table()[i].name;
    EXPECT_EQ(target_of(kFused, operation, x.to(at::kDouble)), Target::kPlain)
        << operation_table()[i].name;
    EXPECT_EQ(target_of(kPlain, operation, x), Target::kPlain) << operation_table()[i].name;
  }
}

}  // namespace
}  // namespace lf
