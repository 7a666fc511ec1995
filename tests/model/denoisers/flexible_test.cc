// Any frames from any frames: networks that take frames by their distances and that convolve over
// space and time, and models that learn and make any frames of a clip from any others.
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/convolution.h"
#include "kernels/peak_bytes.h"
#include "model/denoisers/relative_attention.h"
#include "tests/error_of.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

using Sets = std::vector<std::string>;

UnetConfig published(const std::vector<int>& multipliers, int blocks,
                     UnetConfig::Temporal temporal) {
  UnetConfig config;
  for (const int multiplier : multipliers) config.add_multipliers(multiplier);
  config.set_blocks(blocks);
  config.add_attention(16);
  config.add_attention(8);
  config.set_heads(4);
  config.set_scale_shift(true);
  config.set_temporal(temporal);
  config.set_mark_observed(temporal == UnetConfig::RELATIVE);
  return config;
}

int64_t count_of(const UnetConfig& config, int side) {
  ParameterTable table(0, at::kMeta, {});
  make_unet(config, {{16, side, side, 3}, 3}, Scope(table));
  return table.count();
}

TEST(FlexibleUnet, ParameterCountsAreThePublishedOnes) {
  const auto relative = [](const std::vector<int>& multipliers, int blocks) {
    return published(multipliers, blocks, UnetConfig::RELATIVE);
  };
  EXPECT_EQ(count_of(relative({1, 2, 3, 4}, 2), 64), 115'985'411);
  EXPECT_EQ(count_of(relative({1, 2, 3, 4}, 1), 64), 78'420'739);
  EXPECT_EQ(count_of(relative({1, 1, 2, 3, 4}, 1), 128), 80'358'147);
}

TEST(RandomMaskUnet, ParameterCountsAreThePublishedOnes) {
  EXPECT_EQ(count_of(published({1, 2, 3, 4}, 2, UnetConfig::VOLUME), 64), 235'071'875);
  EXPECT_EQ(count_of(published({1, 2, 3, 4}, 3, UnetConfig::VOLUME), 64), 308'343'427);
}

std::unique_ptr<SmallNetwork> small_unet(UnetConfig::Temporal temporal, bool mark = false) {
  UnetConfig config;
  config.set_width(16);
  config.add_multipliers(1);
  config.add_multipliers(2);
  config.set_blocks(1);
  config.add_attention(8);
  config.set_heads(2);
  config.set_temporal(temporal);
  config.set_mark_observed(mark);
  auto network = std::make_unique<SmallNetwork>();
  network->denoiser = make_unet(config, {{5, 8, 8, 3}, 3, 0, 0, false}, Scope(network->table));
  wake_up(network->table);
  return network;
}

TEST(RelativePositions, AddingAConstantToAllIndicesChangesNoBit) {
  const auto network = small_unet(UnetConfig::RELATIVE);
  NoisyClips clips = noisy_clips(2, 5);
  clips.index_BT = at::tensor({0, 2, 3, 11, 40, 7, 8, 9, 10, 12}, at::kLong).reshape({2, 5});
  const at::Tensor here = (*network)(clips);
  for (const int64_t shift : {1, 1000, 123'456'789}) {
    NoisyClips shifted = clips;
    shifted.index_BT = clips.index_BT + shift;
    EXPECT_TRUE(at::equal((*network)(shifted), here)) << shift;
  }
}

TEST(RelativePositions, SpacingAndOrderMatter) {
  const auto network = small_unet(UnetConfig::RELATIVE);
  NoisyClips clips = noisy_clips(1, 5), wide = clips, reversed = clips;
  wide.index_BT = clips.index_BT * 3;
  reversed.index_BT = clips.index_BT.flip({1});
  const at::Tensor before = (*network)(clips);
  EXPECT_FALSE(at::allclose((*network)(wide), before, 1e-3, 1e-4));
  EXPECT_FALSE(at::allclose((*network)(reversed), before, 1e-3, 1e-4));
}

// By the definition, one pair of frames at a time.
TEST(RelativePositions, AttentionIsTheDefinition) {
  constexpr int64_t kChannels = 8, kHeads = 2, kWidth = 4, kFrames = 3, kSide = 2;
  ParameterTable table(5, at::kCPU, {});
  const RelativeAttention attention(Scope(table), kChannels, 6, kHeads);
  wake_up(table);
  const at::NoGradGuard no_grad;
  const at::Tensor images =
      some_numbers({kFrames, kSide, kSide, kChannels}, 1).permute({0, 3, 1, 2});
  BlockCall call;
  call.embedding = some_numbers({kFrames, 6}, 2);
  call.frames.frames = kFrames;
  const at::Tensor index = at::tensor({3, 4, 9}, at::kLong).unsqueeze(0);
  call.frames.offsets = frame_offsets(index);
  const at::Tensor got = as_rows(attention(images, call) - images);

  const at::Tensor qkv = attention.qkv(as_rows(attention.norm(images)));  // [T, P, 3C]
  const auto code = [&](const RelativeCode& net, int64_t i, int64_t j) {
    const double offset =
        static_cast<double>(index[0][i].item<int64_t>() - index[0][j].item<int64_t>());
    const at::Tensor input =
        at::tensor({std::log(1 + std::max(offset, 0.0)), std::log(1 + std::max(-offset, 0.0)),
                    offset == 0 ? 1.0 : 0.0},
                   at::kFloat);
    const at::Tensor hidden = net.distance(input) + net.level(call.embedding[i]);
    return net.out(hidden * hidden.sigmoid());  // [C]
  };
  for (int64_t place = 0; place < kSide * kSide; ++place) {
    for (int64_t i = 0; i < kFrames; ++i) {
      at::Tensor mixed = at::zeros({kChannels});
      for (int64_t head = 0; head < kHeads; ++head) {
        const auto part = [&](const at::Tensor& x, int64_t from) {
          return x.slice(-1, from + head * kWidth, from + (head + 1) * kWidth);
        };
        std::vector<at::Tensor> logits, values;
        for (int64_t j = 0; j < kFrames; ++j) {
          const at::Tensor q = part(qkv[i][place], 0) / std::sqrt(double{kWidth}),
                           k = part(qkv[j][place], kChannels);
          logits.push_back((q * k).sum() + (q * part(code(attention.key_code, i, j), 0)).sum() +
                           (k * part(code(attention.query_code, j, i), 0)).sum() /
                               std::sqrt(double{kWidth}));
          values.push_back(part(qkv[j][place], 2 * kChannels) +
                           part(code(attention.value_code, i, j), 0));
        }
        at::Tensor p = at::stack(logits);
        p = (p - p.max()).exp();
        p = p / p.sum();
        mixed.slice(0, head * kWidth, (head + 1) * kWidth)
            .copy_((p.unsqueeze(1) * at::stack(values)).sum(0));
      }
      EXPECT_TRUE(at::allclose(got[i][place], attention.out(mixed), 1e-4, 1e-5))
          << place << " " << i;
    }
  }
}

TEST(FlexibleUnet, AbsentFramesChangeNothingElse) {
  const auto network = small_unet(UnetConfig::RELATIVE, true);
  NoisyClips clips = noisy_clips(2, 5);
  clips.role_BT = at::tensor({0, 1, 1, 2, 2}, at::kByte).unsqueeze(0);
  const at::Tensor before = (*network)(clips);
  NoisyClips other = clips;
  other.z_BTHWC = clips.z_BTHWC.clone();
  other.z_BTHWC.slice(1, 3).fill_(17);
  other.index_BT = at::tensor({0, 1, 2, 900, -5}, at::kLong).unsqueeze(0);
  const at::Tensor after = (*network)(other);
  EXPECT_TRUE(at::equal(after.slice(1, 0, 3), before.slice(1, 0, 3)));
  EXPECT_FALSE(at::equal(after.slice(1, 3), before.slice(1, 3)));
}

TEST(FlexibleUnet, SeesWhichFramesAreObserved) {
  const auto network = small_unet(UnetConfig::RELATIVE, true);
  NoisyClips clips = noisy_clips(1, 5);
  const at::Tensor none = (*network)(clips);
  clips.role_BT = at::tensor({1, 1, 1, 1, 1}, at::kByte).unsqueeze(0);
  EXPECT_TRUE(at::equal((*network)(clips), none));
  clips.role_BT = at::tensor({1, 0, 1, 1, 1}, at::kByte).unsqueeze(0);
  EXPECT_FALSE(at::allclose((*network)(clips), none, 1e-4, 1e-4));
}

// A change of one pixel of the first frame reaches other frames even without attention.
TEST(RandomMaskUnet, ConvolvesAndAttendsOverTime) {
  const auto network = small_unet(UnetConfig::VOLUME);
  NoisyClips clips = noisy_clips(1, 5), other = clips;
  other.z_BTHWC = clips.z_BTHWC.clone();
  other.z_BTHWC[0][0][0][0][0] += 1;
  const at::Tensor change = ((*network)(other) - (*network)(clips)).abs().amax({0, 2, 3, 4});
  for (int64_t frame = 0; frame < 5; ++frame) EXPECT_GT(change[frame].item<double>(), 0) << frame;
  EXPECT_EQ((*network)(noisy_clips(2, 3)).sizes(), (std::vector<int64_t>{2, 3, 8, 8, 3}));
}

// A convolution over frames and their neighbours equals LibTorch's over space and time.
TEST(RandomMaskUnet, ConvolutionsAreThreeDimensional) {
  for (const int64_t stride : {1, 2}) {
    const at::Tensor x = some_numbers({2, 5, 8, 8, 3}, 4), weight = some_numbers({4, 9, 3, 3}, 5);
    const at::Tensor volume = weight.unflatten(1, {3, 3}).transpose(1, 2);  // [4, 3, time, 3, 3]
    const at::Tensor expected =
        at::conv3d(x.permute({0, 4, 1, 2, 3}), volume, {}, {1, stride, stride}, 1);
    const at::Tensor images = with_neighbours(frames_as_images(x), 5);
    const at::Tensor got = images_as_frames(at::conv2d(images, weight, {}, stride, 1), 5);
    EXPECT_TRUE(at::allclose(got.permute({0, 4, 1, 2, 3}), expected, 1e-4, 1e-4)) << stride;
  }
}

// ---- models -------------------------------------------------------------------------------------

Sets flexible(const Sets& more = {}) {
  Sets sets = {"model.diffusion.frames=FLEXIBLE", "model.diffusion.window=4",
               "model.unet.temporal=RELATIVE", "model.unet.mark_observed=true"};
  sets.insert(sets.end(), more.begin(), more.end());
  return sets;
}

Sets random_masks(const Sets& more = {}) {
  Sets sets = {"model.diffusion.frames=RANDOM", "model.diffusion.most_given=2",
               "model.unet.temporal=VOLUME"};
  sets.insert(sets.end(), more.begin(), more.end());
  return sets;
}

// The loss of a network with zero output is the noise's mean square over latent frames: one,
// however many are observed or absent.
TEST(FlexibleTraining, LossIsTheMeanOverLatentFramesOnly) {
  for (const Sets& sets : {flexible(), flexible({"model.diffusion.observed=1"}), random_masks()}) {
    const auto model = small_model(8, sets);
    const Clips clips = some_clips(64, 8);
    EXPECT_NEAR(model->loss(clips, 0, true).total.item<double>(), 1, 0.05) << join(sets, " ");
    // One clip's loss is the mean over its latent frames, so it is near one too.
    for (int64_t i = 0; i < 8; ++i) {
      EXPECT_NEAR(model->loss(clips.slice(i, i + 1), 0, true).total.item<double>(), 1, 0.3);
    }
  }
}

TEST(RandomMaskTraining, AllUnconditionalIsJointTraining) {
  const auto loss = [](const Sets& sets) {
    const auto model = small_model(4, sets);
    wake_up(model->parameters());
    return model->loss(some_clips(6, 4), 0, true).total.item<double>();
  };
  EXPECT_EQ(loss(random_masks({"model.diffusion.unconditional=1"})),
            loss({"model.unet.temporal=VOLUME"}));
  EXPECT_NE(loss(random_masks({"model.diffusion.unconditional=0"})),
            loss({"model.unet.temporal=VOLUME"}));
}

TEST(FlexibleTraining, LossOfABatchIsTheMeanOfItsSlicesAndReachesEveryWeight) {
  for (const Sets& sets : {flexible({"model.unet.dropout=0.2"}), random_masks()}) {
    const auto model = small_model(7, sets);
    wake_up(model->parameters());
    const Clips all = some_clips(12, 7, 40);
    const at::Tensor whole = model->loss(all, 0, true).total;
    const at::Tensor parts = (model->loss(all.slice(0, 3), 0, true).total +
                              3 * model->loss(all.slice(3, 12), 0, true).total) /
                             4;
    EXPECT_TRUE(at::allclose(whole, parts, 1e-4, 1e-5));
    whole.backward();
    for (const NamedTensor& weight : model->parameters().weights()) {
      ASSERT_TRUE(weight.tensor.grad().defined()) << weight.name;
      EXPECT_GT(weight.tensor.grad().abs().max().item<double>(), 0) << weight.name;
    }
  }
}

TEST(FlexibleTraining, RecomputedBlocksGiveTheSameBits) {
  for (const Sets& sets : {flexible(), random_masks()}) {
    const auto gradients = [&](const std::string& recompute) {
      Sets all = sets;
      all.push_back("train.recompute=" + recompute);
      const auto model = small_model(5, all);
      wake_up(model->parameters());
      model->loss(some_clips(2, 5), 0, true).total.backward();
      std::vector<at::Tensor> found;
      for (const NamedTensor& weight : model->parameters().weights()) {
        found.push_back(weight.tensor.grad());
      }
      return found;
    };
    const auto plain = gradients("false"), again = gradients("true");
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i])) << i;
  }
}

SampleRequest request_of(const at::Tensor& given, std::vector<int64_t> numbers, int64_t frames) {
  SampleRequest request;
  request.seed = 9;
  request.count = given.size(0);
  request.given_BTHWC = given;
  request.given_frames = std::move(numbers);
  request.frames = frames;
  return request;
}

// Any given frames come back bit for bit, and all others are sampled.
TEST(Completion, GivenFramesComeBackUntouchedForAnyLength) {
  const std::vector<std::vector<int64_t>> given = {{0}, {0, 1, 6}, {3, 5}, {1, 2}};
  for (const char* scheme : {"NEXT", "LONG_RANGE", "HIERARCHY"}) {
    const auto model = small_model(8, flexible({str("model.diffusion.sampler.scheme=", scheme),
                                                "model.diffusion.sampler.steps=1"}));
    for (const std::vector<int64_t>& numbers : given) {
      for (const int64_t frames : {7, 15}) {
        const at::Tensor shown =
            some_numbers({1, static_cast<int64_t>(numbers.size()), 8, 8, 3}, 6).clamp(-1, 1);
        const at::Tensor made = model->sample(request_of(shown, numbers, frames));
        ASSERT_EQ(made.sizes(), (std::vector<int64_t>{1, frames, 8, 8, 3}));
        EXPECT_TRUE(at::equal(made.index_select(1, at::tensor(numbers, at::kLong)), shown));
        EXPECT_GT(made.abs().amax({0, 2, 3, 4}).min().item<double>(), 0) << "a frame was not made";
      }
    }
  }
}

TEST(LongVideos, NothingButTheVideoItselfGrowsWithItsLength) {
  const auto model = small_model(
      8, flexible({"model.diffusion.sampler.steps=1", "model.diffusion.sampler.scheme=HIERARCHY"}));
  const auto peak = [&](int64_t frames) {
    return peak_bytes_of([&] {
      SampleRequest request;
      request.frames = frames;
      EXPECT_EQ(model->sample(request).size(1), frames);
    });
  };
  const int64_t video = (200 - 20) * 8 * 8 * 3 * static_cast<int64_t>(sizeof(float));
  const int64_t few = peak(20), many = peak(200);
  EXPECT_GT(few, 0);
  EXPECT_LE(many - few, video + 4096);
}

// One clip leaves room for independent windows in the same call; nine clips leave none.
TEST(LongVideos, WindowsSampledTogetherEqualThoseSampledAlone) {
  const Sets sets = flexible({"model.diffusion.sampler.steps=2", "model.diffusion.sampler.levels=3",
                              "model.diffusion.sampler.scheme=HIERARCHY"});
  const auto model = small_model(8, sets);
  wake_up(model->parameters());
  const std::vector<FrameWindow> windows =
      sampling_windows(load_config("", sets).model().diffusion(), 8, {0, 1}, 20);
  EXPECT_LE(rounds_of(windows, 16).size() + 2, windows.size());
  const at::Tensor shown = some_numbers({9, 2, 8, 8, 3}, 6).clamp(-1, 1);
  const at::Tensor apart = model->sample(request_of(shown, {0, 1}, 20)).slice(0, 0, 1);
  const at::Tensor together = model->sample(request_of(shown.slice(0, 0, 1), {0, 1}, 20));
  EXPECT_TRUE(at::allclose(together, apart, 1e-3, 1e-3))
      << (together - apart).abs().max().item<double>();
}

TEST(OneModelForAllTasks, ConditionFramesAreBitIdentical) {
  const auto model = small_model(6, random_masks());
  wake_up(model->parameters());
  const std::vector<std::vector<int64_t>> tasks = {{0, 1}, {0, 5}, {0, 2, 4}, {}};
  for (const std::vector<int64_t>& numbers : tasks) {
    const at::Tensor shown =
        some_numbers({2, static_cast<int64_t>(numbers.size()), 8, 8, 3}, 6).clamp(-1, 1);
    SampleRequest request = request_of(shown, numbers, 6);
    if (numbers.empty()) request.given_BTHWC.reset();
    const at::Tensor made = model->sample(request);
    ASSERT_EQ(made.size(1), 6);
    EXPECT_TRUE(at::equal(made.index_select(1, at::tensor(numbers, at::kLong)),
                          numbers.empty() ? made.slice(1, 0, 0) : shown));
  }
  EXPECT_EQ(model->sample(request_of(some_numbers({1, 2, 8, 8, 3}, 6), {0, 1}, 15)).size(1), 15);
}

// A clip depends on its index only, not on its batch, with adaptive schemes too.
TEST(AdaptiveSchemes, EveryClipChoosesItsOwnWindows) {
  const auto model = small_model(8, flexible({"model.diffusion.sampler.adaptive=true"}));
  wake_up(model->parameters());
  const at::Tensor shown = some_numbers({3, 6, 8, 8, 3}, 6).clamp(-1, 1);
  const std::vector<int64_t> numbers = {0, 1, 2, 3, 4, 5};
  const at::Tensor together = model->sample(request_of(shown, numbers, 11));
  SampleRequest last = request_of(shown.slice(0, 2, 3), numbers, 11);
  last.first = 2;
  EXPECT_TRUE(at::equal(model->sample(last), together.slice(0, 2, 3)));
  // Another distance conditions on other frames and gives other samples.
  SampleRequest other = last;
  other.distance = [](const at::Tensor& a, const at::Tensor& b) {
    return -(a - b).square().mean().item<double>();
  };
  EXPECT_FALSE(at::equal(model->sample(other), together.slice(0, 2, 3)));
}

TEST(Resampling, TakesEveryStepSoManyTimes) {
  const auto calls = [](int resampling) {
    SamplerConfig config;
    config.set_steps(5);
    config.set_resampling(resampling);
    const NoiseSchedule schedule(DiffusionConfig(), 8);
    int estimates = 0;
    SamplerParts parts;
    parts.noise = [] { return some_numbers({4}, 1); };
    parts.estimate = [&](const at::Tensor& z, const NoiseLevel& /*level*/) {
      ++estimates;
      return Estimate{at::zeros_like(z), {}};
    };
    sample_from_noise(config, schedule, parts);
    return estimates;
  };
  EXPECT_EQ(calls(1), 5);
  EXPECT_EQ(calls(3), 13);  // the last step has no noise, so it is not repeated
}

// With the exact estimate of N(0.3, 0.5^2) repeated steps leave the distribution as it is.
TEST(Resampling, LeavesTheGaussianToyWhereItIs) {
  SamplerConfig config;
  config.set_steps(100);
  config.set_gamma(1);
  config.set_resampling(3);
  const NoiseSchedule schedule(DiffusionConfig(), 8);
  uint64_t draw = 0;
  SamplerParts parts;
  parts.noise = [&] { return some_numbers({20000}, 100 + draw++); };
  parts.estimate = [](const at::Tensor& z, const NoiseLevel& level) {
    const double variance = 0.25;
    const double gain =
        level.alpha * variance / (level.alpha * level.alpha * variance + level.sigma * level.sigma);
    return Estimate{0.3 + gain * (z - 0.3 * level.alpha), {}};
  };
  const at::Tensor made = sample_from_noise(config, schedule, parts);
  EXPECT_NEAR(made.mean().item<double>(), 0.3, 0.02);
  EXPECT_NEAR(made.std().item<double>(), 0.5, 0.03);
}

TEST(FlexibleModels, OptionsThatCannotGoTogetherAreRefused) {
  const auto refused = [](int frames, const Sets& sets) {
    return error_of(Code::kUsage, [&] { small_model(frames, sets); });
  };
  EXPECT_TRUE(contains(refused(3, flexible()), "window is 4"));
  EXPECT_TRUE(contains(refused(2, random_masks()), "most_given is 2"));
  EXPECT_TRUE(contains(refused(8, flexible({"model.unet.temporal=VOLUME"})), "gaps between"));
  EXPECT_TRUE(contains(refused(4, random_masks({"model.diffusion.images=1"})), "images adds"));
  EXPECT_TRUE(contains(refused(8, flexible({"model.diffusion.observe=3,1"})), "observe is 3, 1"));
  EXPECT_TRUE(contains(refused(8, flexible({"model.diffusion.window=1"})), "[2"));
  const auto model = small_model(8, flexible());
  const at::Tensor shown = at::zeros({1, 2, 8, 8, 3});
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  model->sample(request_of(shown, {0, 9}, 8));
                                }),
                       "frame 9"));
}

TEST(FlexibleModels, PreviewsShowWhatObserveNames) {
  const auto model = small_model(8, flexible({"model.diffusion.observe=0,7"}));
  const Clips clips = some_clips(2, 8);
  const at::Tensor made = model->preview(clips);
  const at::Tensor ends = at::tensor({0, 7}, at::kLong);
  EXPECT_TRUE(at::equal(made.index_select(1, ends), clips.x_BTHWC.index_select(1, ends)));
  EXPECT_EQ(model->frames_to_give(), (std::vector<int64_t>{0, 7}));
}

}  // namespace
}  // namespace lf
