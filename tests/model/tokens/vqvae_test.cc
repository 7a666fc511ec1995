// The image autoencoder, and the parameter counts of the literature.
#include "model/tokens/vqvae.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

const char* const kTiny =
    "model.vqvae={width: 16 multipliers: [1, 2, 2] blocks: 1 latent: 16 attention: 4 "
    "quantiser { ema { codes: 64 dim: 8 half_life_images: 400 } } }";

TEST(VqVae, HasThePublishedNumberOfParameters) {
  const auto vqgan = make_model(
      config_of({"model.vqvae={width: 128 multipliers: [1, 1, 2, 2, 4] blocks: 2 attention: 16 "
                 "latent: 256 quantiser { learnt { codes: 1024 dim: 256 } } }"}),
      {1, 256, 256, 3}, at::kCPU);
  EXPECT_EQ(count_of(*vqgan, "encoder."), 29298176);
  EXPECT_EQ(count_of(*vqgan, "decoder."), 42449795);
  EXPECT_EQ(count_of(*vqgan, "quantiser."), 393728);
  const auto cifar = make_model(config_of({"model.vqvae={}"}), {1, 32, 32, 3}, at::kCPU);
  // 15.5 million with the codebook, which is no weight of ours: it follows means.
  EXPECT_EQ(cifar->parameters().count() + 1024 * 32, 15482083);
}

TEST(VqVae, StoredCodesDecodeToTheReconstruction) {
  const Config config = config_of({kTiny});
  const auto model = make_tokenizer(config, {2, 16, 16, 3}, at::kCPU);
  const at::Tensor x = squares(3, 2, 16);
  const at::Tensor ids = model->encode(x);
  EXPECT_EQ(ids.sizes(), (std::vector<int64_t>{3, 2, 4, 4}));
  EXPECT_GE(ids.min().item<int64_t>(), 0);
  EXPECT_LT(ids.max().item<int64_t>(), 64);
  EXPECT_TRUE(at::equal(ids, model->encode(x)));
  EXPECT_TRUE(at::equal(model->decode(ids), model->reconstruct(clips_of(x))));
  EXPECT_EQ(model->decode(ids).sizes(), x.sizes());
  // Frames are independent.
  EXPECT_TRUE(
      at::allclose(model->decode(ids.slice(1, 1)), model->decode(ids).slice(1, 1), 1e-4, 1e-5));
}

TEST(VqVae, SeveralCodesOfACellMakeTheGridWider) {
  const Config config =
      config_of({"model.vqvae={width: 16 multipliers: [1, 2] blocks: 1 latent: 16 attention: 4 "
                 "quantiser { groups: 3 ema { codes: 8 dim: 2 } } }",
                 "train.batch=4"});
  const auto model = make_tokenizer(config, {2, 8, 8, 3}, at::kCPU);
  EXPECT_EQ(model->grid(2), (std::array<int64_t, 3>{2, 4, 12}));
  const at::Tensor x = squares(4, 2, 8);
  model->loss(clips_of(x), 0, true);  // starts the codebook
  const at::Tensor ids = model->encode(x);
  EXPECT_EQ(ids.sizes(), (std::vector<int64_t>{4, 2, 4, 12}));
  const at::Tensor made = model->decode(ids);
  EXPECT_TRUE(at::equal(made, model->reconstruct(clips_of(x))));
  // Training decodes the same except for clipping to [-1, 1].
  const at::Tensor gap = made - x;
  EXPECT_NEAR(named(model->loss(clips_of(x), 0, false).terms, "reconstruction").item<double>(),
              (0.5 * gap.abs().mean() + 0.5 * gap.square().mean()).item<double>(), 5e-4);
  // Each of the three affects its own cell.
  for (int64_t group = 0; group < 3; ++group) {
    at::Tensor other = ids.clone();
    other.select(3, group).add_(1).remainder_(8);
    EXPECT_FALSE(at::allclose(model->decode(other), made, 1e-4, 1e-4)) << group;
  }
}

TEST(VqVae, PsnrRisesByFiveDecibelsOnAFewImages) {
  const Config config = config_of({kTiny, "train.batch=32", "train.optimizer.lr=0.002"});
  const auto model = make_model(config, {1, 16, 16, 3}, at::kCPU);
  const at::Tensor x = squares(32, 1, 16);
  const double before = psnr(model->reconstruct(clips_of(x)), x);
  Steps step(*model, config);
  for (int64_t i = 0; i < 150; ++i) step(clips_of(x, i * 32));
  const double after = psnr(model->reconstruct(clips_of(x)), x);
  EXPECT_GT(after, before + 5);
  // And above the means of 4x4 blocks.
  const at::Tensor blocks = x.unflatten(3, {4, 4})
                                .unflatten(2, {4, 4})
                                .mean({3, 5}, true)
                                .expand({-1, -1, 4, 4, 4, 4, -1});
  EXPECT_GT(after, psnr(blocks.flatten(4, 5).flatten(2, 3), x));
}

TEST(VqVae, LevelsThatDoNotDivideTheImageAreUsageErrors) {
  EXPECT_THROW(make_model(config_of({kTiny}), {1, 18, 18, 3}, at::kCPU), Error);
}

}  // namespace
}  // namespace lf
