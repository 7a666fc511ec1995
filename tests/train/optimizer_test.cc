#include "train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace lf {
namespace {

Phase one_weight(const at::Tensor& value) {
  at::Tensor weight = value.clone().set_requires_grad(true);
  return {"generator", {{"w", weight}}};
}

TEST(Optimizer, FirstStepsFollowTheFormulaOfAdamW) {
  OptimizerConfig config;
  config.set_clip_norm(0);
  config.set_weight_decay(0.1);
  const Phase phase = one_weight(at::full({2, 2}, 1.0F));
  Optimizer optimizer(phase, config);
  double w = 1, m = 0, v = 0;
  for (int step = 1; step <= 3; ++step) {
    const double g = 0.5 * step, lr = 0.01;
    phase.weights[0].tensor.mutable_grad() = at::full({2, 2}, static_cast<float>(g));
    optimizer.set_learning_rate(lr);
    optimizer.step(optimizer.gradient_norm());
    m = 0.9 * m + 0.1 * g;
    v = 0.99 * v + 0.01 * g * g;
    w -= lr * 0.1 * w;
    w -= lr * (m / (1 - std::pow(0.9, step))) / (std::sqrt(v / (1 - std::pow(0.99, step))) + 1e-8);
    EXPECT_NEAR(phase.weights[0].tensor[0][0].item<double>(), w, 1e-6) << step;
  }
}

// The first step of Adam is as long as the learning rate.
TEST(Optimizer, TheLastPatternThatMatchesScalesTheLearningRate) {
  OptimizerConfig config;
  for (const char* factor : {"a*=3", "*b=0.5"}) config.add_factor(factor);
  Phase phase{"generator", {}};
  for (const char* name : {"a", "ab", "c"}) {
    phase.weights.push_back({name, at::full({2}, 1.0F).set_requires_grad(true)});
    phase.weights.back().tensor.mutable_grad() = at::full({2}, 1.0F);
  }
  Optimizer optimizer(phase, config);
  optimizer.set_learning_rate(0.01);
  optimizer.step(optimizer.gradient_norm());
  const double factors[] = {3, 0.5, 1};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(phase.weights[i].tensor[0].item<double>(), 1 - 0.01 * factors[i], 1e-6);
  }
  EXPECT_EQ(optimizer.state()[3].name, "ab/exp_avg");
  EXPECT_NEAR(optimizer.state()[3].tensor[0].item<double>(), 0.1 / std::sqrt(6.0), 1e-6);
}

// Channels last as row by row; and a gradient that lies otherwise is refused, for the fused update
// would take its numbers in the wrong order.
TEST(Optimizer, TheOrderInMemoryChangesNothing) {
  const at::Tensor begin = at::arange(48, at::kFloat).view({2, 3, 2, 4}), gradient = begin.cos();
  at::Tensor ends[2];
  for (const bool last : {false, true}) {
    const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    const at::Tensor weight = begin.clone(format).set_requires_grad(true);
    Optimizer optimizer({"generator", {{"w", weight}}}, OptimizerConfig());
    optimizer.set_learning_rate(0.1);
    for (int step = 0; step < 2; ++step) {
      weight.mutable_grad() = gradient.clone(format);
      optimizer.step(optimizer.gradient_norm());
    }
    ends[last] = weight.detach();
    weight.mutable_grad() =
        gradient.clone(last ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast);
    EXPECT_THROW(optimizer.step(optimizer.gradient_norm()), Error);
  }
  EXPECT_TRUE(at::equal(ends[0], ends[1]));
  EXPECT_FALSE(at::equal(ends[0], begin));
}

TEST(Optimizer, VectorsAreNotDecayed) {
  OptimizerConfig config;
  config.set_weight_decay(0.5);
  const Phase phase = one_weight(at::full({4}, 1.0F));
  Optimizer optimizer(phase, config);
  phase.weights[0].tensor.mutable_grad() = at::full({4}, 0.0F);
  optimizer.set_learning_rate(0.1);
  optimizer.step(optimizer.gradient_norm());
  EXPECT_FLOAT_EQ(phase.weights[0].tensor[0].item<float>(), 1.0F);
}

TEST(Optimizer, NormIsGlobalAndClippingScalesEveryGradient) {
  OptimizerConfig config;
  config.set_clip_norm(1);
  const at::Tensor a = at::full({2}, 0.0F).set_requires_grad(true);
  const at::Tensor b = at::full({2, 2}, 0.0F).set_requires_grad(true);
  Optimizer optimizer({"generator", {{"a", a}, {"b", b}}}, config);
  a.mutable_grad() = at::full({2}, 3.0F);
  b.mutable_grad() = at::full({2, 2}, 4.0F);
  const at::Tensor norm = optimizer.gradient_norm();
  EXPECT_NEAR(norm.item<double>(), std::sqrt(18.0 + 64.0), 1e-5);
  optimizer.set_learning_rate(0);
  optimizer.step(norm);
  EXPECT_NEAR(a.grad()[0].item<double>(), 3 / std::sqrt(82.0), 1e-5);
  EXPECT_NEAR(b.grad()[0][0].item<double>(), 4 / std::sqrt(82.0), 1e-5);
}

TEST(Optimizer, GradientsThatAreNotFiniteMoveNothing) {
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    const Phase phase = one_weight(at::full({2, 2}, 1.0F));
    Optimizer optimizer(phase, OptimizerConfig());
    at::Tensor& gradient = phase.weights[0].tensor.mutable_grad();
    gradient = at::full({2, 2}, 0.5F);
    optimizer.set_learning_rate(0.01);
    optimizer.step(optimizer.gradient_norm());
    std::vector<at::Tensor> before = {phase.weights[0].tensor.detach().clone()};
    for (const NamedTensor& state : optimizer.state()) before.push_back(state.tensor.clone());

    gradient.fill_(0.5F)[0][1] = bad;
    optimizer.set_learning_rate(0.01);
    optimizer.step(optimizer.gradient_norm());
    EXPECT_TRUE(at::equal(phase.weights[0].tensor, before[0]));
    size_t next = 1;
    for (const NamedTensor& state : optimizer.state()) {
      EXPECT_TRUE(at::equal(state.tensor, before[next++])) << state.name << " after " << bad;
    }

    gradient.fill_(0.5F);
    optimizer.set_learning_rate(0.01);
    optimizer.step(optimizer.gradient_norm());
    EXPECT_FALSE(at::equal(phase.weights[0].tensor, before[0])) << "the next good one counts";
    EXPECT_EQ(optimizer.state()[0].tensor.item<float>(), 2) << "good steps only";
  }
}

TEST(LearningRate, SchedulesFollowTheirFormulas) {
  OptimizerConfig config;
  config.set_warmup_images(1000);
  EXPECT_NEAR(learning_rate(config, 1.0, 500, 10000), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(config, 1.0, 5000, 10000), 1.0, 1e-12);
  config.set_schedule(COSINE);
  EXPECT_NEAR(learning_rate(config, 1.0, 5500, 10000), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(config, 1.0, 10000, 10000), 0.0, 1e-12);
  config.set_schedule(INVERSE_SQRT);
  EXPECT_NEAR(learning_rate(config, 1.0, 4000, 10000), 0.5, 1e-12);
}

}  // namespace
}  // namespace lf
