// The adversarial losses.
#include "model/tokens/discriminator.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels/dispatch.h"
#include "model/autocast.h"
#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

struct Owned {
  Owned(int layers, int side)
      : table(4, at::kCPU, {}),
        discriminator(Scope(table), config_of(layers), {1, side, side, 3}) {}
  static GanConfig config_of(int layers) {
    GanConfig config;
    config.set_layers(layers);
    config.set_width(8);
    return config;
  }
  ParameterTable table;
  Discriminator discriminator;
};

at::Tensor images(int64_t count, int64_t side, uint64_t seed) {
  return frames_as_images(noise({count, 1, side, side, 3}, seed));
}

TEST(Discriminator, LogitMapsHaveThePublishedSizes) {
  const std::vector<std::array<int, 3>> cases = {{3, 32, 2}, {3, 64, 6}, {3, 128, 14}, {2, 16, 2}};
  for (const auto& [layers, side, logits] : cases) {
    const Owned owned(layers, side);
    const at::Tensor out = owned.discriminator(images(1, side, 1));
    EXPECT_EQ(out.sizes(), (std::vector<int64_t>{1, 1, logits, logits})) << side;
  }
  EXPECT_THROW(Owned(3, 16), Error);
}

// Values, first-order and second-order gradients.
TEST(Discriminator, AProductOfFewPatchesIsTheirConvolution) {
  const at::Tensor x = images(3, 4, 5).to(at::kDouble), weight = noise({6, 3, 4, 4}, 6).to(x),
                   bias = noise({6}, 7).to(x);
  for (const int64_t stride : {1, 2}) {
    std::vector<at::Tensor> found[2];
    for (const bool product : {false, true}) {
      const std::vector<at::Tensor> given = {x.clone().requires_grad_(),
                                             weight.clone().requires_grad_(),
                                             bias.clone().requires_grad_()};
      const at::Tensor out = product ? conv_padded_by_one({}, given[0], given[1], given[2], stride)
                                     : at::conv2d(given[0], given[1], given[2], stride, 1);
      ASSERT_LE(out.size(2) * out.size(3), 9);
      const at::Tensor gradient =
          torch::autograd::grad({out.square().sum()}, {given[0]}, {}, true, true)[0];
      found[product] = torch::autograd::grad({gradient.square().sum()}, given);
      found[product].push_back(out);
    }
    for (size_t i = 0; i < found[0].size(); ++i) {
      EXPECT_TRUE(at::allclose(found[1][i], found[0][i], 1e-9, 1e-9)) << stride << " " << i;
    }
  }
}

// Real images may come in fp32 while made ones come in bf16. Three images: 1/3 is not representable
// in bf16.
TEST(Discriminator, TheLastBiasDoesNotMoveInEitherPrecisionBeforeTheHinge) {
  const Owned owned(2, 16);
  at::Tensor logits[2];
  for (const Precision precision : {FP32, BF16}) {
    const Autocast autocast(precision, at::kCPU);
    logits[precision] = owned.discriminator(images(3, 16, precision == BF16 ? 8 : 2));
  }
  ASSERT_LT(at::cat({logits[0], logits[1]}).abs().max().item<double>(), 1);
  hinge_loss(logits[0], logits[1]).backward();
  const std::vector<NamedTensor>& weights = owned.table.weights();
  EXPECT_TRUE(weights.back().name.ends_with("bias"));
  EXPECT_EQ(weights.back().tensor.grad().item<float>(), 0);
  EXPECT_GT(weights.front().tensor.grad().abs().max().item<float>(), 0);
}

template <typename Judge>
at::Tensor penalty_of(const Judge& judge, const at::Tensor& images) {
  const at::Tensor real = images.detach().requires_grad_();
  return r1_penalty(judge(real), real);
}

TEST(Discriminator, R1IsTheSquaredGradient) {
  const Owned owned(2, 16);
  // Larger weights, so that differences stand out from rounding.
  for (const NamedTensor& weight : owned.table.weights()) {
    if (weight.tensor.dim() == 4) weight.tensor.detach().mul_(10);
  }
  const at::Tensor real = images(2, 16, 2);
  const at::Tensor given = real.clone().requires_grad_();
  owned.discriminator(given).sum().backward();
  const double penalty = penalty_of(owned.discriminator, real).item<double>();
  EXPECT_NEAR(penalty, given.grad().square().sum().item<double>() / 4, 1e-5 * penalty);
  const double gradient = given.grad().norm().item<double>();
  const auto at_distance = [&](double h) {
    return owned.discriminator(real + h * given.grad() / gradient)
        .to(at::kDouble)
        .sum()
        .item<double>();
  };
  EXPECT_NEAR((at_distance(2e-3) - at_distance(-2e-3)) / 4e-3, gradient, 0.02 * gradient);
}

// With a smooth activation: the kinks of a leaky ReLU make the penalty jump, which no gradient
// shows.
TEST(Discriminator, GradientOfR1AgreesWithFiniteDifferences) {
  // The fused norm has no gradients of gradients.
  ParameterTable table(4, at::kCPU, {Form::kReference});
  const Conv2d first(Scope(table, "first"), 3, 8, 3, 2), second(Scope(table, "second"), 8, 1, 3);
  const GroupNorm norm(Scope(table, "norm"), 8);
  const auto smooth = [&](const at::Tensor& x) { return second(norm(first(x)).tanh()); };
  const at::Tensor real = images(2, 8, 2);
  penalty_of(smooth, real).backward();
  for (const NamedTensor& weight : table.weights()) {
    if (weight.name == "second.bias") continue;  // does not affect the gradient
    const at::Tensor gradient = weight.tensor.grad().clone();
    const double expected = gradient.norm().item<double>();
    const double h = 3e-3 * std::max(1.0, weight.tensor.norm().item<double>());
    const auto moved = [&](double by) {
      weight.tensor.detach().add_(gradient / expected, by);
      const double value = penalty_of(smooth, real).item<double>();
      weight.tensor.detach().sub_(gradient / expected, by);
      return value;
    };
    EXPECT_NEAR((moved(h) - moved(-h)) / (2 * h), expected, 0.02 * expected) << weight.name;
  }
}

TEST(Discriminator, LossFallsBelowOneOnSeparableImages) {
  Owned owned(2, 16);
  GanConfig gan;
  OptimizerConfig adam;
  Optimizer optimizer({"discriminator", owned.table.weights()}, adam);
  const at::Tensor real = images(8, 16, 3) * 0.2 + 0.5, fake = images(8, 16, 4) * 0.2 - 0.5;
  double loss = 2;
  for (int step = 0; step < 30; ++step) {
    const at::Tensor hinge = hinge_loss(owned.discriminator(real), owned.discriminator(fake));
    hinge.backward();
    optimizer.set_learning_rate(1e-3);
    optimizer.step(optimizer.gradient_norm());
    for (const NamedTensor& weight : owned.table.weights()) weight.tensor.mutable_grad().reset();
    loss = hinge.item<double>();
  }
  EXPECT_LT(loss, 0.5);
}

TEST(AdaptiveWeight, IsTheRatioOfGradientsUpToItsLimit) {
  const at::Tensor w = at::full({3}, 2.0).requires_grad_();
  const at::Tensor a = (w * 6).sum(), b = (w * 2).sum();
  EXPECT_NEAR(adaptive_weight(a, b, {w}, 100, {}).item<double>(), 3, 1e-3);
  EXPECT_EQ(adaptive_weight(a, b, {w}, 2, {}).item<double>(), 2);
  EXPECT_EQ(adaptive_weight(a, b * 0, {w}, 50, {}).item<double>(), 50);
  EXPECT_FALSE(w.grad().defined());
  // Of the mean loss over ranks: gradients 6 and 0 against 2 and 2.
  double found[2];
  as_two_ranks([&](int rank, const SumOverRanks& sum) {
    const at::Tensor own = at::full({3}, 2.0).requires_grad_();
    found[rank] =
        adaptive_weight((own * (rank == 0 ? 6 : 0)).sum(), (own * 2).sum(), {own}, 100, sum)
            .item<double>();
  });
  EXPECT_NEAR(found[0], 1.5, 1e-3);
  EXPECT_EQ(found[0], found[1]);
}

std::vector<std::string> small_gan(const std::string& gan) {
  return {
      "model.vqvae={width: 8 multipliers: [1, 2] blocks: 1 latent: 8 attention: 1 "
      "quantiser { ema { codes: 16 dim: 4 } } gan {" +
          gan + "} }",
      "train.batch=4"};
}

TEST(Gan, ChangesNothingInTheGeneratorBeforeItsStart) {
  const Config with = config_of(small_gan("weight: 0.5 layers: 2 start_images: 8 ramp_images: 8"));
  const Config without = config_of(small_gan("weight: 0"));
  const auto adversarial = make_model(with, {1, 16, 16, 3}, at::kCPU);
  const auto plain = make_model(without, {1, 16, 16, 3}, at::kCPU);
  Steps one(*adversarial, with), other(*plain, without);
  const at::Tensor x = squares(4, 1, 16);
  const auto equal = [&] {
    for (const NamedTensor& weight : plain->parameters().weights()) {
      if (!at::equal(weight.tensor, named(adversarial->parameters().weights(), weight.name)))
        return false;
    }
    return true;
  };
  for (int64_t at : {0, 4, 8}) {  // at 8 the ramp still stands at 0
    EXPECT_EQ(one(clips_of(x, at)), other(clips_of(x, at)));
    EXPECT_TRUE(equal()) << "after image " << at;
  }
  // At 12 half of the weight counts.
  one.turn(0);
  const Loss half = adversarial->loss(clips_of(x, 12), 0, true);
  EXPECT_NE(half.total.item<double>(), plain->loss(clips_of(x, 12), 0, true).total.item<double>());
  one(clips_of(x, 12));
  other(clips_of(x, 12));
  EXPECT_FALSE(equal());
}

TEST(Gan, LazyR1CountsForTheStepsBetween) {
  const Config config = config_of(small_gan("weight: 0.5 layers: 2 r1: 2 r1_every: 3"));
  const auto model = make_model(config, {1, 16, 16, 3}, at::kCPU);
  const at::Tensor x = squares(4, 1, 16);
  for (int64_t step = 0; step < 5; ++step) {
    const Loss loss = model->loss(clips_of(x, step * 4), 1, true);
    const double hinge = loss.terms[0].tensor.item<double>(),
                 r1 = loss.terms[1].tensor.item<double>();
    EXPECT_EQ(r1 > 0, step % 3 == 0);
    EXPECT_FLOAT_EQ(loss.total.item<float>(), static_cast<float>(hinge + 2 * 3 * r1));
  }
}

}  // namespace
}  // namespace lf
