// The video autoencoder.
#include "model/tokens/cvivit.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include "model/tokens/transformer.h"
#include "tests/model/tokens/token_fixture.h"

namespace lf {
namespace {

std::string tiny(const std::string& more = "", int patch = 4) {
  return str(
      "model.cvivit={width: 32 spatial_layers: 1 temporal_layers: 1 heads: 2 head_width: 16 "
      "quantiser { ema { codes: 64 dim: 8 half_life_images: 200 } } patch: ",
      patch, " ", more, "}");
}

// With a convolutional stem, which halves height and width before the patches.
std::string tiny_with_stem() { return tiny("stem: 1 stem_width: 8", 2); }

TEST(Cvivit, HasThePublishedNumberOfParameters) {
  const auto phenaki =
      make_model(load_config(LF_SOURCE_DIR "/configs/peers/cvivit-phenaki.pbtxt", {}),
                 {9, 32, 32, 3}, at::kCPU);
  // phenaki-pytorch counts 1,758,660: it also has norms for cross-attention, 8 layers of 128, that
  // its autoencoder never uses.
  EXPECT_EQ(phenaki->parameters().count(), 1758660 - 8 * 128);
  const auto cifar = make_model(config_of({"model.cvivit={}"}), {8, 32, 32, 3}, at::kCPU);
  EXPECT_NEAR(static_cast<double>(cifar->parameters().count()), 9.6e6, 0.05e6);
}

TEST(Cvivit, LaterFramesChangeNoEarlierCodesOrPixels) {
  for (const std::string& more :
       {tiny("temporal_patch: 1"), tiny("temporal_patch: 3"), tiny_with_stem()}) {
    const auto model = make_tokenizer(config_of({more}), {7, 16, 16, 3}, at::kCPU);
    const int64_t steps = model->grid(7)[0];
    const at::Tensor x = noise({2, 7, 16, 16, 3}, 5), ids = model->encode(x);
    for (int64_t step = 1; step < steps; ++step) {
      const int64_t from = model->frames(step);  // the first frame of this step
      at::Tensor changed = x.clone();
      changed.slice(1, from).copy_(noise({2, 7 - from, 16, 16, 3}, 6));
      const at::Tensor other = model->encode(changed);
      EXPECT_TRUE(at::equal(other.slice(1, 0, step), ids.slice(1, 0, step))) << more;
      EXPECT_FALSE(at::equal(other.slice(1, step), ids.slice(1, step))) << more;

      at::Tensor codes = ids.clone();
      codes.slice(1, step).copy_((ids.slice(1, step) + 7).remainder(64));
      const at::Tensor made = model->decode(codes), given = model->decode(ids);
      EXPECT_TRUE(at::equal(made.slice(1, 0, from), given.slice(1, 0, from))) << more;
      EXPECT_FALSE(at::equal(made.slice(1, from), given.slice(1, from))) << more;
    }
  }
}

TEST(Cvivit, BrightnessAndContrastReachTheCodes) {
  const at::Tensor x = noise({4, 1, 16, 16, 3}, 5);
  const auto unmoved = [&](const std::string& norm) {
    const auto model = make_tokenizer(config_of({tiny(norm)}), {1, 16, 16, 3}, at::kCPU);
    return (model->encode(x) == model->encode(0.5 * x + 0.2)).to(at::kDouble).mean().item<double>();
  };
  EXPECT_LT(unmoved("patch_norm: AFTER"), 0.5);
  EXPECT_GT(unmoved("patch_norm: BOTH"), 0.95);
}

TEST(Cvivit, TheLastFrameDependsOnTheCodesOfEarlierFrames) {
  for (const std::string& more : {tiny(), tiny_with_stem()}) {
    const auto model = make_tokenizer(config_of({more}), {5, 16, 16, 3}, at::kCPU);
    const at::Tensor ids = model->encode(noise({2, 5, 16, 16, 3}, 5));
    for (int64_t step = 0; step < 4; ++step) {
      at::Tensor changed = ids.clone();
      changed.select(1, step).copy_((ids.select(1, step) + 7).remainder(64));
      EXPECT_FALSE(at::equal(model->decode(changed).select(1, 4), model->decode(ids).select(1, 4)))
          << more << " frame " << step;
    }
  }
}

TEST(Cvivit, AnImageIsAClipOfOneFrame) {
  const auto model =
      make_tokenizer(config_of({tiny("temporal_patch: 2")}), {5, 16, 16, 3}, at::kCPU);
  const at::Tensor x = noise({2, 5, 16, 16, 3}, 8);
  const at::Tensor ids = model->encode(x), image = model->encode(x.slice(1, 0, 1));
  EXPECT_TRUE(at::equal(image, ids.slice(1, 0, 1)));
  EXPECT_TRUE(at::allclose(model->decode(image), model->decode(ids).slice(1, 0, 1), 1e-4, 1e-5));
}

TEST(Cvivit, ShorterClipsAreTheBeginningOfLongerOnes) {
  const auto model =
      make_tokenizer(config_of({tiny("temporal_patch: 2")}), {7, 16, 16, 3}, at::kCPU);
  const at::Tensor x = noise({1, 9, 16, 16, 3}, 9);
  const at::Tensor whole = model->reconstruct(clips_of(x));  // longer than it was made for
  for (const int64_t frames : {1, 3, 5, 7}) {
    const at::Tensor part = model->reconstruct(clips_of(x.slice(1, 0, frames)));
    EXPECT_TRUE(at::allclose(part, whole.slice(1, 0, frames), 1e-4, 1e-5)) << frames;
  }
  EXPECT_THROW(model->encode(x.slice(1, 0, 4)), Error);
}

TEST(Cvivit, EveryLegalTemporalPatchWorksAndIllegalOnesNameThem) {
  for (const auto& [frames, patches] :
       std::vector<std::pair<int, std::vector<int>>>{{1, {1, 2, 5}},
                                                     {4, {1, 3}},
                                                     {8, {1, 7}},
                                                     {16, {1, 3, 5, 15}},
                                                     {18, {1, 17}},
                                                     {32, {1, 31}}}) {
    for (const int patch : patches) {
      const auto model = make_tokenizer(config_of({tiny(str("temporal_patch: ", patch))}),
                                        {frames, 8, 8, 3}, at::kCPU);
      const at::Tensor x = noise({1, frames, 8, 8, 3}, 10);
      EXPECT_EQ(model->reconstruct(clips_of(x)).sizes(), x.sizes());
      model->loss(clips_of(x), 0, true).total.backward();
      for (const NamedTensor& weight : model->parameters().weights()) {
        EXPECT_TRUE(weight.tensor.grad().defined()) << weight.name << " of " << frames << " frames";
      }
    }
  }
  try {
    make_tokenizer(config_of({tiny("temporal_patch: 2")}), {16, 8, 8, 3}, at::kCPU);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
    EXPECT_NE(std::string(error.what()).find("1, 3, 5, 15, or clips of 15 or 17 frames"),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(make_tokenizer(config_of({tiny()}), {4, 10, 10, 3}, at::kCPU), Error);
}

TEST(PositionGenerator, SeesItsNeighboursAndThePastOnTheRightAxes) {
  ParameterTable table(2, at::kCPU, {});
  const CausalDepthwiseConv conv(Scope(table), 2);
  conv.bias.detach().zero_();
  at::Tensor x = at::zeros({1, 5, 4, 6, 2});
  x[0][2][1][3][0] = 1;  // time 2, row 1, column 3
  const at::Tensor out = (conv(x) - x).detach();
  // The kernel's taps appear around it: the same and two later time steps, one row and column
  // around.
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t column = 0; column < 6; ++column) {
        const int64_t back = t - 2, dy = 1 - row, dx = 3 - column;
        const bool reached = back >= 0 && back <= 2 && std::abs(dy) <= 1 && std::abs(dx) <= 1;
        const double expected =
            reached ? conv.weight[0][0][2 - back][1 + dy][1 + dx].item<double>() : 0;
        EXPECT_NEAR(out[0][t][row][column][0].item<double>(), expected, 1e-6)
            << t << " " << row << " " << column;
        EXPECT_EQ(out[0][t][row][column][1].item<double>(), 0);  // channels do not mix
      }
    }
  }
}

TEST(OffsetBias, DependsOnTheOffsetAlone) {
  ParameterTable table(2, at::kCPU, {});
  const OffsetBias bias(Scope(table), 16, 3);
  const at::Tensor b = bias(3, 4).detach();
  EXPECT_EQ(b.sizes(), (std::vector<int64_t>{3, 12, 12}));
  const auto of = [&](int64_t from, int64_t to) { return b[1][from][to].item<double>(); };
  EXPECT_EQ(of(0, 5), of(6, 11));  // one down, one right
  EXPECT_EQ(of(1, 4), of(6, 9));   // one down, one left
  EXPECT_NE(of(0, 5), of(5, 0));
  EXPECT_NE(of(1, 4), of(0, 5));
}

TEST(Transformer, DistanceBiasIsAlibiAndCausal) {
  const at::Tensor bias = causal_distance_bias(4, 3, at::kFloat);
  EXPECT_FLOAT_EQ(bias[0][2][0].item<float>(), -2 * 0.25F);  // 2^(-8/4) a step
  EXPECT_FLOAT_EQ(bias[3][1][0].item<float>(), -1.0F / 256);
  EXPECT_EQ(bias[0][1][1].item<float>(), 0);
  EXPECT_TRUE(std::isinf(bias[2][0][1].item<float>()));
}

TEST(Cvivit, LearnsTheLastFrameOfPseudoVideos) {
  for (const std::string& more : {tiny(), tiny_with_stem()}) {
    const Config config = config_of({more, "train.batch=16", "train.optimizer.lr=0.003"});
    const auto model = make_model(config, {4, 16, 16, 3}, at::kCPU);
    const at::Tensor x = squares(16, 4, 16);
    const auto last = [&] {
      return psnr(model->reconstruct(clips_of(x)).slice(1, -1), x.slice(1, -1));
    };
    const double before = last();
    Steps step(*model, config);
    for (int64_t i = 0; i < 150; ++i) step(clips_of(x, i * 16));
    EXPECT_GT(last(), before + 5) << more;
    EXPECT_GT(last(), 16) << more;
  }
}

TEST(Cvivit, DiscriminatorSeesTheLastFrameWithTheGivenProbability) {
  // Probability 1: no other frame of the real clips affects its loss.
  const Config config =
      config_of({tiny("gan { weight: 1 layers: 2 last_frame: 1 }"), "train.batch=2"});
  const auto model = make_model(config, {4, 16, 16, 3}, at::kCPU);
  at::Tensor x = noise({2, 4, 16, 16, 3}, 12).requires_grad_();
  model->loss(clips_of(x), 1, true).total.backward();
  EXPECT_EQ(x.grad().slice(1, 0, 3).abs().max().item<double>(), 0);
  EXPECT_GT(x.grad().slice(1, 3).abs().max().item<double>(), 0);
  // Probability 1/2: 5 in 8 with four frames.
  const Config half = config_of({tiny("gan { weight: 1 layers: 2 }"), "train.batch=64"});
  const auto other = make_model(half, {4, 16, 16, 3}, at::kCPU);
  at::Tensor many = noise({64, 4, 16, 16, 3}, 13).requires_grad_();
  other->loss(clips_of(many), 1, true).total.backward();
  const at::Tensor seen = (many.grad().abs().amax({2, 3, 4}) > 0).sum(0);
  EXPECT_EQ(seen.sum().item<int64_t>(), 64);
  EXPECT_NEAR(seen[3].item<double>(), 40, 12);
  EXPECT_GT(seen.slice(0, 0, 3).min().item<int64_t>(), 0);
}

}  // namespace
}  // namespace lf
