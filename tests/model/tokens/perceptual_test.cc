// The perceptual loss of the token models.
#include "model/tokens/perceptual.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/relu.h>

#include "model/classifier.h"
#include "model/extractors/lpips.h"
#include "tests/model/extractors/formula_weights_fixture.h"
#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

OpenExport holding(TensorsByName tensors) {
  return [tensors = std::move(tensors)](const std::string& /*file*/) {
    ExportedModel model;
    for (const auto& [name, tensor] : tensors) model.tensors.push_back({name, tensor});
    return model;
  };
}

TensorsByName lpips(const std::string& net) {
  return formula_tensors(str(LF_SOURCE_DIR, "/tests/fixtures/extractors/lpips-", net, ".layout"));
}

TensorsByName classifier(int64_t frames = 1) {
  const auto model = make_model(config_of({"model.classifier={width: 8 stages: 2 classes: 4}"}),
                                {static_cast<int>(frames), 16, 16, 3}, at::kCPU);
  TensorsByName tensors;
  for (const NamedTensor& weight : model->parameters().weights())
    tensors.emplace(weight.name, weight.tensor.detach().clone());
  return tensors;
}

PerceptualLoss loss_by(TensorsByName tensors, int side) {
  return {"judge.safetensors", {1, side, side, 3}, at::kCPU, {}, holding(std::move(tensors))};
}

at::Tensor images(int64_t count, int64_t side, uint64_t seed) {
  return frames_as_images(noise({count, 1, side, side, 3}, seed));
}

TEST(Perceptual, LpipsAsALossIsTheMeanOfTheMetric) {
  const at::Tensor a = (noise({3, 40, 40, 3}, 1) * 127.5 + 127.5).to(at::kByte),
                   b = (noise({3, 40, 40, 3}, 2) * 127.5 + 127.5).to(at::kByte);
  const auto as_images = [](const at::Tensor& bytes) {
    return frames_as_images(bytes.unsqueeze(1).to(at::kFloat) / 127.5 - 1);
  };
  for (const std::string net : {"alex", "squeeze"}) {
    Weights weights = weights_of(lpips(net));
    const double metric = make_lpips(weights)->distance(a, b).mean().item<double>();
    const PerceptualLoss loss = loss_by(lpips(net), 40);
    EXPECT_NEAR(loss(as_images(a), as_images(b)).item<double>(), metric, 1e-5 * metric) << net;
    EXPECT_EQ(loss(as_images(a), as_images(a)).item<double>(), 0) << net;
    // Grey images become RGB with equal channels.
    const at::Tensor grey = as_images(a).slice(1, 0, 1), other = as_images(b).slice(1, 0, 1);
    EXPECT_NEAR(loss(grey, other).item<double>(),
                loss(grey.expand({-1, 3, -1, -1}), other.expand({-1, 3, -1, -1})).item<double>(),
                1e-6);
  }
}

TEST(Perceptual, ClassifiersStagesAreComparedByDirection) {
  const TensorsByName tensors = classifier();
  const auto conv = [&](const at::Tensor& x, const std::string& name, int64_t stride) {
    const at::Tensor& weight = tensors.at("classifier." + name + ".weight");
    return at::conv2d(x, weight, tensors.at("classifier." + name + ".bias"), stride,
                      weight.size(2) / 2);
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::group_norm(x.contiguous(), x.size(1) / 4,
                          tensors.at("classifier." + name + ".weight"),
                          tensors.at("classifier." + name + ".bias"));
  };
  const auto stage = [&](const at::Tensor& x, const std::string& name, int64_t stride) {
    const at::Tensor h = at::relu(norm(conv(x, name + ".first", stride), name + ".first_norm"));
    return at::relu(norm(conv(h, name + ".second", 1), name + ".second_norm") +
                    conv(x, name + ".around", stride));
  };
  const at::Tensor a = images(3, 16, 4), b = images(3, 16, 5);
  const auto features = [&](const at::Tensor& x) {
    const at::Tensor first = stage(at::relu(norm(conv(x, "stem", 1), "stem_norm")), "stage0", 1);
    return std::vector<at::Tensor>{first, stage(first, "stage1", 2)};
  };
  double expected = 0;
  const std::vector<at::Tensor> of_a = features(a), of_b = features(b);
  for (size_t depth = 0; depth < 2; ++depth) {
    // |u - v|^2 of directions is 2 - 2 cos.
    const at::Tensor x = of_a[depth].to(at::kDouble), y = of_b[depth].to(at::kDouble);
    const at::Tensor cosine =
        (x * y).sum(1) / (x.square().sum(1).sqrt() * y.square().sum(1).sqrt());
    expected += 0.5 * (2 - 2 * cosine).mean().item<double>();
  }
  EXPECT_NEAR(loss_by(tensors, 16)(a, b).item<double>(), expected, 1e-5);
}

TEST(Perceptual, GradientAgreesWithFiniteDifferences) {
  for (const bool own : {true, false}) {
    const PerceptualLoss loss = own ? loss_by(classifier(), 32) : loss_by(lpips("squeeze"), 32);
    const at::Tensor given = images(2, 32, 6);
    const at::Tensor made = images(2, 32, 7).requires_grad_();
    loss(given, made).backward();
    const double norm = made.grad().norm().item<double>();
    ASSERT_GT(norm, 0);
    const auto moved = [&](double by) {
      const at::NoGradGuard no_grad;
      return loss(given, made.detach() + by * made.grad() / norm).item<double>();
    };
    constexpr double kStep = 0.02;  // a little of images whose norm is 45; past few kinks of ReLUs
    EXPECT_NEAR((moved(kStep) - moved(-kStep)) / (2 * kStep), norm, 0.05 * norm) << own;
  }
}

TEST(Perceptual, PixelsWithoutFeaturesHaveNoGradient) {
  FeatureMaps network;
  network.heads = {at::full({1, 3, 1, 1}, 1.0)};
  const at::Tensor some = images(2, 4, 8), none = at::zeros({2, 3, 4, 4}).requires_grad_();
  const at::Tensor distance = feature_distance(network, {some}, {none});
  EXPECT_TRUE(at::allclose(distance, at::full({2}, 1.0)));  // |u|^2
  distance.sum().backward();
  EXPECT_TRUE(at::isfinite(none.grad()).all().item<bool>());
}

std::string small_model(const std::string& perceptual, const std::string& more = "") {
  return "model.vqvae={width: 8 multipliers: [1, 2] blocks: 1 latent: 8 attention: 1 "
         "quantiser { ema { codes: 16 dim: 4 } } perceptual {" +
         perceptual + "}" + more + "}";
}

std::unique_ptr<Model> judged(const Config& config, const ClipShape& shape) {
  return make_model(config, shape, at::kCPU, {}, holding(classifier()));
}

TEST(Perceptual, ChangesNothingBeforeItsStart) {
  const Config with =
      config_of({small_model("network: 'judge' weight: 0.5 start_images: 8"), "train.batch=4"});
  const Config without = config_of({small_model(""), "train.batch=4"});
  const auto one = judged(with, {1, 16, 16, 3}), other = judged(without, {1, 16, 16, 3});
  // The perceptual network's weights are not the model's: they are neither trained nor saved.
  EXPECT_EQ(one->parameters().count(), other->parameters().count());
  Steps step(*one, with), plain(*other, without);
  const at::Tensor x = squares(4, 1, 16);
  const auto equal = [&] {
    for (const NamedTensor& weight : other->parameters().weights()) {
      if (!at::equal(weight.tensor, named(one->parameters().weights(), weight.name))) return false;
    }
    return true;
  };
  for (const int64_t at : {0, 4}) {
    EXPECT_EQ(step(clips_of(x, at)), plain(clips_of(x, at)));
    EXPECT_TRUE(equal()) << "after image " << at;
  }
  const Loss loss = one->loss(clips_of(x, 8), 0, true);
  const double perceptual = named(loss.terms, "perceptual").item<double>();
  EXPECT_GT(perceptual, 0);
  EXPECT_NEAR(loss.total.item<double>(),
              other->loss(clips_of(x, 8), 0, true).total.item<double>() + perceptual, 1e-6);
  // Validation leaves it out, so that losses are comparable over a run.
  EXPECT_EQ(one->loss(clips_of(x, 8), 0, false).total.item<double>(),
            other->loss(clips_of(x, 8), 0, false).total.item<double>());
  step(clips_of(x, 8));
  plain(clips_of(x, 8));
  EXPECT_FALSE(equal());
}

TEST(Perceptual, SeesTheLastFrameWithTheGivenProbability) {
  const ClipShape shape = {4, 16, 16, 3};
  const at::Tensor x = squares(8, 4, 16);
  const PerceptualLoss judge = loss_by(classifier(), 16);
  const auto term = [&](const char* last_frame) {
    const auto model = judged(
        config_of({small_model(str("network: 'judge' last_frame: ", last_frame)), "train.batch=8"}),
        shape);
    // The codebook starts with the first loss.
    model->loss(clips_of(x), 0, true);
    const double found =
        named(model->loss(clips_of(x), 0, true).terms, "perceptual").item<double>();
    const at::Tensor made = model->reconstruct(clips_of(x)).slice(1, -1);
    return std::pair(
        found, judge(frames_as_images(x.slice(1, -1)), frames_as_images(made)).item<double>());
  };
  const auto [always, of_last] = term("1");
  EXPECT_NEAR(always, of_last, 1e-4 * of_last);
  const auto [never, same_last] = term("0");  // any frame, the last among them
  EXPECT_EQ(of_last, same_last);
  EXPECT_GT(std::abs(never - of_last), 1e-3 * of_last);
}

TEST(Perceptual, JoinsTheReconstructionInTheAdaptiveWeight) {
  const auto weight = [&](const char* strength) {
    const Config config =
        config_of({small_model(str("network: 'judge' weight: ", strength),
                               "gan { weight: 1 layers: 2 adaptive_limit: 10000 }"),
                   "train.batch=4"});
    const auto model = judged(config, {1, 16, 16, 3});
    const Loss loss = model->loss(clips_of(squares(4, 1, 16)), 0, true);
    return named(loss.terms, "adversarial_weight").item<double>();
  };
  // Its gradient outgrows the reconstruction's, and with it the ratio grows.
  EXPECT_NEAR(weight("100") / weight("50"), 2, 0.2);
  EXPECT_GT(weight("100"), 2 * weight("0"));
}

TEST(Perceptual, NetworksThatDoNotFitAreUsageErrors) {
  const auto refused = [](const OpenExport& open, const ClipShape& shape) {
    try {
      make_model(config_of({small_model("network: 'judge'")}), shape, at::kCPU, {}, open);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kUsage);
      return std::string(error.what());
    }
    ADD_FAILURE() << "not refused";
    return std::string();
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(refused(holding(lpips("alex")), {1, 16, 16, 3}), "31 pixels"));
  EXPECT_TRUE(has(refused(holding({{"other", at::zeros({1})}}), {1, 16, 16, 3}), "neither LPIPS"));
  EXPECT_TRUE(has(refused(holding(classifier(3)), {1, 16, 16, 3}), "classifier of clips"));
  // Using the model, rather than training it, does not need the file.
  const Config config = config_of({small_model("network: 'gone'")});
  EXPECT_GT(
      make_model(without_perceptual_loss(config), {1, 16, 16, 3}, at::kCPU)->parameters().count(),
      0);
}

}  // namespace
}  // namespace lf
