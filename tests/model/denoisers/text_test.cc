// Texts as tokens: what cross-attention computes, and what the networks and models see of a text.
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/denoisers/text_attention.h"
#include "tests/error_of.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

using Sets = std::vector<std::string>;

// Of two clips: 3 tokens, and 1 with 2 of padding.
at::Tensor some_text(int64_t width = 6) {
  const at::Tensor text = some_numbers({2, 3, width}, 21);
  text[1].slice(0, 1).zero_();
  return text;
}

// Clip by clip, head by head, pixel by pixel, in double precision.
TEST(CrossAttention, EqualsTheFormula) {
  constexpr int64_t kChannels = 4, kHeads = 2, kWidth = 3, kPixels = 5, kFrames = 2;
  ParameterTable table(3, at::kCPU, {});
  const CrossAttention layer(Scope(table), kChannels, 6, kHeads, kWidth);
  wake_up(table);
  const at::NoGradGuard no_grad;
  NoisyClips clips;
  clips.text = some_text();
  const at::Tensor rows = some_numbers({2 * kFrames, kPixels, kChannels}, 4);
  const at::Tensor found = layer(rows, text_context(clips));
  const auto normed = [](const at::Tensor& x) {
    return (x - x.mean(-1, true)) / (x.var(-1, false, true) + 1e-5).sqrt();
  };
  for (int64_t n = 0; n < 2 * kFrames; ++n) {
    const int64_t count = n / kFrames == 0 ? 3 : 1;
    const at::Tensor tokens = normed(clips.text[n / kFrames].slice(0, 0, count).to(at::kDouble)),
                     x = rows[n].to(at::kDouble);
    const at::Tensor q = (normed(x) * layer.norm.weight)
                             .matmul(layer.query.weight().to(at::kDouble).t()),
                     kv = tokens.matmul(layer.key_value.weight().to(at::kDouble).t());
    at::Tensor mixed = at::zeros_like(q);
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
        double sum = 1;  // exp(0), of nothing
        for (int64_t token = 0; token < count; ++token) {
          double logit = 0;
          for (int64_t i = head * kWidth; i < (head + 1) * kWidth; ++i) {
            logit += q[pixel][i].item<double>() * kv[token][i].item<double>();
          }
          const double share = std::exp(logit / std::sqrt(static_cast<double>(kWidth)));
          sum += share;
          const int64_t at = (kHeads + head) * kWidth;
          mixed[pixel].slice(0, head * kWidth, (head + 1) * kWidth) +=
              share * kv[token].slice(0, at, at + kWidth);
        }
        mixed[pixel].slice(0, head * kWidth, (head + 1) * kWidth) /= sum;
      }
    }
    const at::Tensor expected = x + mixed.matmul(layer.out.weight().to(at::kDouble).t());
    EXPECT_TRUE(at::allclose(found[n].to(at::kDouble), expected, 1e-5, 1e-5)) << n;
    EXPECT_FALSE(at::allclose(found[n].to(at::kDouble), x, 1e-3, 1e-3)) << n;
  }
}

class TextNetworks : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, TextNetworks, testing::Values("unet", "unet3d", "dit"),
                         [](const auto& info) { return std::string(info.param); });

// To the bit: attention to nothing gives nothing.
TEST_P(TextNetworks, OfPaddingAloneAreThoseWithoutAText) {
  const auto network = small_network(GetParam(), 2, true, 0, {}, 6);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(2, 2);
  const at::Tensor none = (*network)(clips);
  clips.text = at::zeros({2, 3, 6});
  EXPECT_TRUE(at::equal((*network)(clips), none));
  clips.text = some_text();
  EXPECT_FALSE(at::allclose((*network)(clips), none, 1e-3, 1e-3));
}

TEST_P(TextNetworks, SeeEveryTokenOfTheirOwnClipOnly) {
  const auto network = small_network(GetParam(), 2, true, 0, {}, 6);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(2, 2);
  clips.text = some_text();
  const at::Tensor before = (*network)(clips);
  NoisyClips other = clips;
  // Another pair of tokens with the same mean, so that only attention tells them apart.
  other.text = clips.text.clone();
  const at::Tensor apart = some_numbers({6}, 8);
  other.text[0][0] += apart;
  other.text[0][2] -= apart;
  const at::Tensor after = (*network)(other);
  EXPECT_FALSE(at::allclose(after[0], before[0], 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(after[1], before[1]));
  // A token at the end that is padding changes nothing; tokens are a set.
  other.text = at::cat({clips.text, at::zeros({2, 1, 6})}, 1);
  EXPECT_TRUE(at::allclose((*network)(other), before, 1e-5, 1e-5));
  other.text = clips.text.flip({1});
  EXPECT_TRUE(at::allclose((*network)(other), before, 1e-4, 1e-5));
}

const Sets kTold = {"model.diffusion.text=caption", "model.diffusion.text_width=6",
                    "model.diffusion.text_tokens=3", "loader.side=caption"};

Sets told(const Sets& more) {
  Sets sets = kTold;
  sets.insert(sets.end(), more.begin(), more.end());
  return sets;
}

Clips captioned(int64_t count, int64_t frames) {
  Clips clips = some_clips(count, frames);
  clips.side.push_back({"caption", some_numbers({count, 18}, 5)});
  return clips;
}

TEST(TextModel, GradientsReachEveryWeightAndRecomputedBlocksGiveTheSameBits) {
  const Sets networks[] = {
      {"model.unet.temporal=AFTER"},
      {"model.unet.temporal=RELATIVE"},
      {"model.unet.temporal=VOLUME"},
      {"model.unet3d={dim: 16 multipliers: 1 multipliers: 2 heads: 2 head_width: 8}"},
      {"model.dit={width: 16 layers: 2 heads: 2}"}};
  for (const Sets& network : networks) {
    std::vector<at::Tensor> kept[2];
    for (const bool again : {false, true}) {
      Sets sets = told(network);
      if (again) sets.emplace_back("train.recompute=true");
      const auto model = small_model(3, sets);
      wake_up(model->parameters());
      model->loss(captioned(8, 3), 0, true).total.backward();
      for (const NamedTensor& weight : model->parameters().weights()) {
        ASSERT_TRUE(weight.tensor.grad().defined()) << network[0] << ": " << weight.name;
        EXPECT_GT(weight.tensor.grad().abs().max().item<double>(), 0)
            << network[0] << ": " << weight.name;
        kept[again ? 1 : 0].push_back(weight.tensor.grad());
      }
    }
    for (size_t i = 0; i < kept[0].size(); ++i) EXPECT_TRUE(at::equal(kept[0][i], kept[1][i]));
  }
}

TEST(TextModel, SamplesByTextsOfAnyShapeAndWithoutAsAtGuidanceZero) {
  const auto made = [](const char* guidance, const at::Tensor& text) {
    const auto model = small_model(2, told({str("model.diffusion.sampler.guidance=", guidance)}));
    wake_up(model->parameters());
    SampleRequest request{1, 0, 2, {}, {}, 0};
    request.text = text;
    return model->sample(request);
  };
  const at::Tensor text = some_text(), none = made("1", {});
  const at::Tensor own = made("1", text);
  EXPECT_FALSE(at::allclose(own, none, 1e-3, 1e-3));
  EXPECT_TRUE(at::equal(made("1", text.flatten(1)), own));
  EXPECT_TRUE(at::equal(made("0", text), none));
  EXPECT_FALSE(at::allclose(made("3", text), own, 1e-3, 1e-3));
  // Fewer tokens than trained with, where the rest would be padding.
  at::Tensor one = text.clone();
  one.slice(1, 1).zero_();
  EXPECT_TRUE(at::allclose(made("1", text.slice(1, 0, 1)), made("1", one), 1e-4, 1e-4));
}

TEST(TextModel, TextsOfOtherSizesAreUsageErrors) {
  const auto model = small_model(2, kTold);
  Clips clips = some_clips(2, 2);
  clips.side.push_back({"caption", some_numbers({2, 17}, 5)});
  EXPECT_TRUE(
      contains(error_of(Code::kUsage, [&] { model->loss(clips, 0, true); }), "has 17 values"));
  SampleRequest request{1, 0, 2, {}, {}, 0};
  request.text = at::zeros({2, 3, 5});
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { model->sample(request); }), "[2, 3, 5]"));
  request.text = at::zeros({2, 6});
  EXPECT_TRUE(
      contains(error_of(Code::kUsage, [&] { model->sample(request); }), "3 tokens in a row of 18"));
}

}  // namespace
}  // namespace lf
