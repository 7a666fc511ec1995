#include "model/recompute.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "base/error.h"
#include "config/config.h"
#include "kernels/peak_bytes.h"
#include "model/autocast.h"
#include "model/model.h"

namespace lf {
namespace {

constexpr ClipShape kShape{4, 16, 16, 3};

Clips some_clips(int64_t count) {
  Clips clips{{}, at::full({count}, -1, at::kLong), 3, 40};
  clips.x_BTHWC = at::full({count, 4, 16, 16, 3}, 0.0F);
  clips.x_BTHWC = keyed_normal(clips, Purpose::kGenerated, 0, {4, 16, 16, 3});
  return clips;
}

Config config_of(bool recomputed) {
  return load_config("", {"model.autoencoder.width=8", "model.autoencoder.dropout=0.3",
                          "model.autoencoder.gan_weight=0.1",
                          str("train.recompute=", recomputed ? "true" : "false")});
}

// All gradients of a phase, two micro-batches summed.
std::vector<NamedTensor> gradients(bool recomputed, Precision precision, size_t phase) {
  const auto model = make_model(config_of(recomputed), kShape, at::kCPU);
  const Clips clips = some_clips(4);
  for (int64_t half = 0; half < 2; ++half) {
    Loss loss;
    {
      const Autocast autocast(precision, at::kCPU);
      loss = model->loss(clips.slice(2 * half, 2 * half + 2), phase, true);
    }
    loss.total.backward();  // outside autocast, as the trainer does
  }
  std::vector<NamedTensor> found;
  const std::vector<Phase> phases = model->phases();
  for (const NamedTensor& weight : phases[phase].weights) {
    found.push_back({weight.name, weight.tensor.grad()});
  }
  return found;
}

TEST(Recompute, GradientsHaveTheSameBitsWithDropoutDiscriminatorAndAutocast) {
  for (const Precision precision : {FP32, BF16}) {
    for (size_t phase = 0; phase < 2; ++phase) {
      const auto plain = gradients(false, precision, phase);
      const auto again = gradients(true, precision, phase);
      ASSERT_EQ(plain.size(), again.size());
      for (size_t i = 0; i < plain.size(); ++i) {
        ASSERT_TRUE(plain[i].tensor.defined() && again[i].tensor.defined()) << plain[i].name;
        EXPECT_TRUE(at::equal(plain[i].tensor, again[i].tensor))
            << plain[i].name << ", precision " << precision << ", phase " << phase;
      }
    }
  }
}

// With reference operations: fused ones save memory themselves.
TEST(Recompute, AClipTakesLessMemory) {
  const auto bytes = [](bool recomputed, Kernels kernels) {
    Config config = config_of(recomputed);
    config.mutable_train()->set_kernels(kernels);
    const auto model = make_model(config, kShape, at::kCPU);
    const auto of_step = [&](int64_t count) {
      const Clips clips = some_clips(count);
      const int64_t peak = peak_bytes_of([&] { model->loss(clips, 0, true).total.backward(); });
      for (const NamedTensor& weight : model->parameters().weights()) {
        weight.tensor.mutable_grad().reset();
      }
      return peak;
    };
    return of_step(2) - of_step(1);
  };
  const int64_t plain = bytes(false, REFERENCE), again = bytes(true, REFERENCE);
  const int64_t fused = bytes(false, FUSED), fused_again = bytes(true, FUSED);
  EXPECT_LT(again, plain * 3 / 4) << plain;
  EXPECT_LT(fused, plain * 3 / 4) << plain;
  EXPECT_LT(fused_again, fused * 9 / 10) << fused;
}

at::Tensor leaf(double value) { return at::full({3, 3}, value).set_requires_grad(true); }

TEST(Recompute, BlocksNestAndTakeAndGiveSeveralTensors) {
  const at::Tensor a = leaf(0.1), b = leaf(0.2), x = leaf(0.3), y = at::full({3, 3}, 0.4);
  int calls = 0;
  const TensorFunction block = [&](const Tensors& in) {
    ++calls;
    const at::Tensor inner =
        recompute([&](const at::Tensor& h) { return at::tanh(h.matmul(a)); }, in[0], {a});
    return Tensors{inner.matmul(b), inner + in[1], in[1] * 2};
  };
  const auto loss = [](const Tensors& out) { return out[0].sum() + (out[1] * out[1]).sum(); };
  const auto take = [&] {
    Tensors found = {a.grad().clone(), b.grad().clone(), x.grad().clone()};
    for (const at::Tensor& tensor : {a, b, x}) tensor.mutable_grad().reset();
    return found;
  };
  loss(block({x, y})).backward();
  const Tensors plain = take();
  calls = 0;
  const Tensors out = recompute(block, {x, y}, {a, b});
  EXPECT_FALSE(out[2].requires_grad() && y.requires_grad());
  loss(out).backward();
  EXPECT_EQ(calls, 2);
  const Tensors again = take();
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i])) << i;
}

// Counts accumulations into a weight, which the gradient synchronisation waits for.
struct Arrivals : torch::autograd::FunctionPostHook {
  explicit Arrivals(int& count) : count_(count) {}
  torch::autograd::variable_list operator()(
      const torch::autograd::variable_list& outputs,
      const torch::autograd::variable_list& /*inputs*/) override {
    ++count_;
    return outputs;
  }
  int& count_;
};

TEST(Recompute, AWeightOfSeveralBlocksGetsItsGradientOnce) {
  const at::Tensor a = leaf(0.1), x = leaf(0.3);
  int arrived = 0;
  const auto accumulator = torch::autograd::impl::grad_accumulator(a);
  accumulator->add_post_hook(std::make_unique<Arrivals>(arrived));
  const auto block = [&](const at::Tensor& h) { return at::tanh(h.matmul(a)); };
  recompute(block, recompute(block, x, {a}), {a}).sum().backward();
  EXPECT_EQ(arrived, 1);
  const at::Tensor again = a.grad().clone();
  a.mutable_grad().reset();
  block(block(x)).sum().backward();
  EXPECT_TRUE(at::equal(again, a.grad()));
}

TEST(Recompute, AWeightThatIsNotListedIsFound) {
  const at::Tensor a = leaf(0.1), b = leaf(0.2), x = leaf(0.3);
  const at::Tensor outside = b * 2;  // a part of the graph that only the closure knows
  for (const at::Tensor& hidden : {b, outside}) {
    const at::Tensor out =
        recompute([&](const at::Tensor& h) { return h.matmul(a).matmul(hidden); }, x, {a});
    try {
      out.sum().backward();
      FAIL() << "the gradient of a weight was lost";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kBug);
      EXPECT_NE(std::string(error.what()).find("is not listed"), std::string::npos);
    }
  }
}

TEST(Recompute, WithoutGradientsItIsOneCall) {
  const at::Tensor a = leaf(0.1), x = leaf(0.3);
  int calls = 0;
  const auto block = [&](const at::Tensor& h) {
    ++calls;
    return h.matmul(a);
  };
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(recompute(block, x, {a}), x.matmul(a)));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace lf
