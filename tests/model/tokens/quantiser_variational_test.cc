#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include "model/tokens/quantiser.h"
#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

std::unique_ptr<Quantiser> bottleneck(double kl) {
  VariationalConfig config;
  config.set_dim(3);
  config.set_kl(kl);
  return make_variational_bottleneck(config);
}

// An encoder's output with the same mean and log variance everywhere.
at::Tensor moments(int64_t clips, double mean, double log_variance) {
  return at::cat(
      {at::full({clips, 1, 64, 64, 3}, mean), at::full({clips, 1, 64, 64, 3}, log_variance)}, -1);
}

TEST(VariationalBottleneck, LossIsTheDivergenceFromTheStandardNormal) {
  for (const auto& [mean, log_variance] : {std::pair{0.0, 0.0}, {0.7, -1.3}, {-2.0, 0.4}}) {
    const at::Tensor given = moments(1, mean, log_variance);
    const double nats = 0.5 * (mean * mean + std::exp(log_variance) - 1 - log_variance);
    EXPECT_NEAR(bottleneck(0.5)->quantise(given, {given, {}}, false).loss.item<double>(),
                0.5 * nats, 1e-6);
  }
}

TEST(VariationalBottleneck, GivesTheMeanAndInTrainingADrawAroundIt) {
  const at::Tensor given = moments(2, 0.7, -1.3);
  const Clips key{given, {}, 5, 40};
  const auto quantiser = bottleneck(1);
  const Quantised still = quantiser->quantise(given, key, false);
  EXPECT_TRUE(at::equal(still.z, given.slice(-1, 0, 3)));
  EXPECT_FALSE(still.ids.defined());
  const at::Tensor drawn = quantiser->quantise(given, key, true).z;
  EXPECT_NEAR(drawn.mean().item<double>(), 0.7, 0.02);
  EXPECT_NEAR(drawn.std().item<double>(), std::exp(-0.65), 0.02);
  // A clip's draw does not depend on its batch.
  const at::Tensor second = given.slice(0, 1);
  EXPECT_TRUE(
      at::equal(quantiser->quantise(second, {second, {}, 5, 41}, true).z, drawn.slice(0, 1)));
}

TEST(VariationalBottleneck, AutoencodersReconstructAndTheirLatentsAreVectors) {
  const Config config =
      config_of({"model.vqvae={ width: 8 multipliers: [1, 2] blocks: 1 latent: 4 attention: 4 "
                 "quantiser { variational { dim: 2 kl: 1e-5 } } }"});
  const auto tokenizer = make_tokenizer(config, {1, 8, 8, 3}, at::kCPU);
  EXPECT_EQ(tokenizer->codes(), 0);
  const at::Tensor x = squares(16, 1, 8);
  Steps steps(*tokenizer, config_of({"train.optimizer.lr=0.004"}));
  const double before = psnr(tokenizer->reconstruct(clips_of(x)), x);
  for (int64_t i = 0; i < 300; ++i) steps(clips_of(x, i * 16));
  EXPECT_GT(psnr(tokenizer->reconstruct(clips_of(x)), x), before + 5);
  EXPECT_EQ(tokenizer->latents(x).sizes(), (std::vector<int64_t>{16, 1, 4, 4, 2}));
}

}  // namespace
}  // namespace lf
