// What the tests of all fused operations share: cases of random shapes, and what must hold for
// each, on a CPU or on a GPU.
#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/isa.h"
#include "kernels/dispatch.h"

namespace lf {

using Tensors = std::vector<at::Tensor>;

// One operation at one shape. The first input is x.
struct Case {
  std::string shape;
  Tensors inputs;  // that take gradients
  std::function<at::Tensor(const KernelChoice&)> run;
};
using MakeCase = std::function<Case(std::mt19937&)>;

// The same shapes and numbers in every run.
inline std::mt19937 generator_of(unsigned seed) {
  at::manual_seed(seed);
  return std::mt19937(seed);
}

inline int64_t between(std::mt19937& generator, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}
inline bool coin(std::mt19937& generator) { return between(generator, 0, 1) == 1; }

constexpr KernelChoice kPlain{Form::kReference, false}, kFused{Form::kFused, true};

// Where cases lie.
inline at::Device& device_of_cases() {
  static at::Device device(at::kCPU);
  return device;
}
inline at::Tensor normal(at::IntArrayRef shape) { return at::randn(shape).to(device_of_cases()); }
inline at::Tensor weight(at::IntArrayRef shape, double size = 1) {
  return (normal(shape) * size).requires_grad_();
}

// The output and the gradients of all inputs.
inline Tensors results(const Case& one, const KernelChoice& kernels) {
  const at::Tensor y = one.run(kernels);
  // Not around zero, where sums over rows would be nothing but rounding.
  const at::Tensor gradient =
      ((at::arange(y.numel(), y.options().dtype(at::kFloat)) * 0.7).sin() + 0.5).view(y.sizes());
  Tensors all = {y.detach()};
  for (const at::Tensor& gradient :
       torch::autograd::grad({y}, one.inputs, {gradient.to(y.scalar_type())})) {
    all.push_back(gradient);
  }
  return all;
}

inline double gap(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kFloat) - b.to(at::kFloat)).norm() / (b.to(at::kFloat).norm() + 1e-12))
      .item<double>();
}

inline void expect_equals_reference_here(const MakeCase& make, std::mt19937& generator, int cases,
                                         const std::string& where) {
  for (int i = 0; i < cases; ++i) {
    const Case one = make(generator);
    const Tensors truth = results(one, kPlain), found = results(one, kFused);
    ASSERT_EQ(truth.size(), found.size());
    EXPECT_LT(gap(found[0], truth[0]), 1e-5) << one.shape << " " << where;
    EXPECT_LT((found[0] - truth[0]).abs().max().item<double>(),
              1e-5 * (1 + truth[0].abs().max().item<double>()))
        << one.shape;
    for (size_t g = 1; g < truth.size(); ++g) {
      EXPECT_LT(gap(found[g], truth[g]), 1e-4)
          << one.shape << " gradient of input " << g - 1 << " " << where;
    }
  }
}

inline void expect_equals_reference(const MakeCase& make, int cases) {
  std::mt19937 generator = generator_of(5);
  for (const Isa width : isas_here()) {
    const ForcedIsa forced(width);
    expect_equals_reference_here(make, generator, cases, name_of(width));
  }
}

// What comes out must not depend on who computes it, nor on whether a gradient will be asked for.
inline void expect_equal_bits(const MakeCase& make, int cases = 100) {
  std::mt19937 generator = generator_of(6);
  const int before = at::get_num_threads();
  for (int i = 0; i < cases; ++i) {
    const Case one = make(generator);
    at::set_num_threads(1);
    const Tensors alone = results(one, kFused);
    at::set_num_threads(2);
    const Tensors shared = results(one, kFused);
    at::set_num_threads(3);
    const Tensors thirds = results(one, kFused);
    for (size_t k = 0; k < alone.size(); ++k) {
      EXPECT_TRUE(at::equal(alone[k], shared[k])) << one.shape << " result " << k;
      EXPECT_TRUE(at::equal(alone[k], thirds[k])) << one.shape << " result " << k;
    }
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(alone[0], one.run(kFused))) << one.shape << " without gradients";
  }
  at::set_num_threads(before);
}

class Bf16Autocast {
 public:
  Bf16Autocast() {
    at::autocast::set_autocast_enabled(device_of_cases().type(), true);
    at::autocast::set_autocast_dtype(device_of_cases().type(), at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Bf16Autocast() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_of_cases().type(), false);
  }
};

// Under autocast the fused form is as near to single precision as the plain one, summed over cases.
inline void expect_no_worse_than_autocast(const MakeCase& make, int cases) {
  std::mt19937 generator = generator_of(7);
  std::vector<double> plain, fused;
  for (int i = 0; i < cases; ++i) {
    const Case one = make(generator);
    const Tensors truth = results(one, kPlain);
    const Bf16Autocast autocast;
    const Tensors theirs = results(one, kPlain), ours = results(one, kFused);
    plain.resize(truth.size());
    fused.resize(truth.size());
    for (size_t k = 0; k < truth.size(); ++k) {
      plain[k] += gap(theirs[k], truth[k]);
      fused[k] += gap(ours[k], truth[k]);
    }
  }
  for (size_t k = 0; k < plain.size(); ++k) {
    EXPECT_LE(fused[k], plain[k] + 1e-3 * cases) << "result " << k;
    EXPECT_LT(fused[k], 0.05 * cases) << "result " << k;
  }
}

// A number that is none must not get lost on the way: the trainer looks for it.
inline void expect_keeps_what_is_not_finite(const MakeCase& make) {
  std::mt19937 generator = generator_of(8);
  const Case one = make(generator);
  const at::NoGradGuard no_grad;
  one.inputs[0].detach().view({-1})[0].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_FALSE(one.run(kFused).isfinite().all().item<bool>()) << one.shape;
}

}  // namespace lf
