// Capabilities that show only in a network that has learnt: one small training for several tests.
// Minutes on two cores: label `slow`.
#include <ATen/ops/allclose.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/where.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/text.h"
#include "diffusion/variational.h"
#include "model/tokens/tokenizer.h"
#include "tests/slow/training_fixture.h"

namespace lf {
namespace {

double mean_square(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().mean().item<double>();
}

double part_of(const at::Tensor& yes) { return yes.to(at::kFloat).mean().item<double>(); }

// Four frames together, with captions, a third of them left out.
DiffusionModel& joint_model() {
  static const std::unique_ptr<DiffusionModel> model = [] {
    auto made = square_model(4, {"model.diffusion.text=caption", "model.diffusion.text_width=4",
                                 "loader.side=caption", "model.diffusion.condition_dropout=0.33"});
    train(
        *made, [](int64_t count, int64_t first) { return square_clips(count, first, 4); }, 2000,
        24);
    return made;
  }();
  return *model;
}

DiffusionModel& predicting_model() {
  static const std::unique_ptr<DiffusionModel> model = [] {
    auto made = square_model(4, {"model.diffusion.frames=PREDICT", "model.diffusion.given=2",
                                 "model.diffusion.sampler.gamma=0.3"});
    train(
        *made, [](int64_t count, int64_t first) { return square_clips(count, first, 4); }, 1200,
        24);
    return made;
  }();
  return *model;
}

constexpr int64_t kUnseen = 1 << 20;  // positions that training did not reach

TEST(UnconditionalGeneration, SquaresHaveTheRightSizeAndMove) {
  const at::Tensor made = joint_model().sample({1, 0, 32, {}, {}, 0});
  const at::Tensor size = (made > 0).sum({2, 3, 4});
  EXPECT_GT(part_of(size.ge(7).logical_and(size.le(11))), 0.8);
  const at::Tensor step = motion(made.select(1, 1), made.select(1, 2));
  EXPECT_GT(part_of(step.abs() == 1), 0.8);
  // Both directions come up, and a clip keeps its own.
  EXPECT_GT(part_of(step == 1), 0.2);
  EXPECT_GT(part_of(step == -1), 0.2);
  EXPECT_GT(part_of(step == motion(made.select(1, 2), made.select(1, 3))), 0.8);
}

TEST(TextConditioning, ANewCaptionReversesTheMotion) {
  const auto steps = [](int64_t place) {
    at::Tensor captions = at::zeros({24, 4});
    captions.select(1, place).fill_(1);
    const at::Tensor made = joint_model().sample({2, 0, 24, {}, {}, 0, captions});
    return motion(made.select(1, 1), made.select(1, 2));
  };
  EXPECT_GT(part_of(steps(0) == -1), 0.8);
  EXPECT_GT(part_of(steps(2) == 1), 0.8);
}

// Two tokens, the words of a direction, whose mean is 0 for both: only cross-attention can tell.
at::Tensor tokens_of(const at::Tensor& captions) {
  const at::Tensor left = at::tensor({1.0F, -1.0F, 1.0F, -1.0F}),
                   right = at::tensor({1.0F, 1.0F, -1.0F, -1.0F});
  const at::Tensor word = at::where(captions.slice(1, 0, 1) > 0, left, right);
  return at::cat({word, -word}, 1);
}

TEST(TextConditioning, NewTokensReverseTheMotionFromAGivenFrame) {
  const auto model =
      square_model(2, {"model.diffusion.frames=PREDICT", "model.diffusion.given=1",
                       "model.diffusion.text=caption", "model.diffusion.text_width=4",
                       "model.diffusion.text_tokens=2", "loader.side=caption"});
  train(
      *model,
      [](int64_t count, int64_t first) {
        Clips clips = square_clips(count, first, 2);
        clips.side[0].tensor = tokens_of(clips.side[0].tensor);
        return clips;
      },
      800, 24);
  const Clips truth = square_clips(48, kUnseen, 2);
  const at::Tensor given = truth.x_BTHWC.slice(1, 0, 1);
  const auto hits = [&](bool reversed) {
    const at::Tensor captions =
        reversed ? truth.side[0].tensor.flip({1}).roll({-1}, {1}) : truth.side[0].tensor;
    const at::Tensor made = model->sample({2, 0, 48, {}, given, 2, tokens_of(captions)});
    return part_of(motion(made.select(1, 0), made.select(1, 1)) ==
                   at::where(captions.select(1, 0) > 0, -1, 1));
  };
  EXPECT_GT(hits(false), 0.9);
  EXPECT_GT(hits(true), 0.9);
}

TEST(ReconstructionGuidance, IsNearerToTheTruthThanReplacement) {
  const Clips truth = square_clips(32, kUnseen, 4);
  const at::Tensor given = truth.x_BTHWC.slice(1, 0, 2);
  const auto error = [&](const std::string& how) {
    auto model = square_model(
        4, {"model.diffusion.text=caption", "model.diffusion.text_width=4", "loader.side=caption",
            "model.diffusion.sampler.given=" + how, "model.diffusion.sampler.given_weight=2"});
    for (size_t i = 0; i < model->parameters().weights().size(); ++i) {
      const at::NoGradGuard no_grad;
      model->parameters().weights()[i].tensor.copy_(joint_model().parameters().weights()[i].tensor);
    }
    const at::Tensor made = model->sample({3, 0, 32, {}, given, 4});
    EXPECT_TRUE(at::equal(made.slice(1, 0, 2), given));
    return mean_square(made.slice(1, 2), truth.x_BTHWC.slice(1, 2));
  };
  EXPECT_LT(error("RECONSTRUCT"), 0.92 * error("REPLACE"));
}

TEST(FuturePrediction, BeatsACopyOfTheLastFrameForAnyNumberOfFrames) {
  for (const int64_t frames : {3, 4, 6}) {
    const Clips truth = square_clips(24, kUnseen, frames);
    const at::Tensor given = truth.x_BTHWC.slice(1, 0, 2);
    const at::Tensor made = predicting_model().sample({4, 0, 24, {}, given, frames});
    EXPECT_EQ(made.size(1), frames);
    const at::Tensor future = truth.x_BTHWC.slice(1, 2);
    const at::Tensor copy = truth.x_BTHWC.slice(1, 1, 2).expand_as(future);
    EXPECT_LT(mean_square(made.slice(1, 2), future), 0.5 * mean_square(copy, future)) << frames;
  }
}

TEST(LongExtension, FourTimesTheWindowKeepsToTheMotion) {
  const Clips truth = square_clips(16, kUnseen, 16);
  const at::Tensor made =
      predicting_model().sample({5, 0, 16, {}, truth.x_BTHWC.slice(1, 0, 2), 16});
  std::vector<double> drift;
  for (int64_t frame = 2; frame < 16; ++frame) {
    drift.push_back(mean_square(made.select(1, frame), truth.x_BTHWC.select(1, frame)));
  }
  RecordProperty("drift_first", std::to_string(drift.front()));
  RecordProperty("drift_last", std::to_string(drift.back()));
  const double blind = mean_square(truth.x_BTHWC.select(1, 0), truth.x_BTHWC.select(1, 4));
  EXPECT_LT(drift.back(), 0.75 * blind);
  // A model of joint frames extends its own.
  EXPECT_EQ(joint_model().sample({6, 0, 2, {}, {}, 9}).size(1), 9);
}

// The part of squares of the right size that keep to one direction.
double part_of_moving_squares(const at::Tensor& made) {
  const at::Tensor size = (made > 0).sum({2, 3, 4});
  const at::Tensor sized = size.ge(7).logical_and(size.le(11)).all(1);
  const at::Tensor first = motion(made.select(1, 0), made.select(1, 1)),
                   next = motion(made.select(1, 1), made.select(1, 2));
  return part_of(sized.logical_and(first == next).logical_and(first.abs() == 1));
}

TEST(DiffusionTransformer, MakesSquaresThatMove) {
  auto model = square_model(4, {"model.dit={ width: 64 layers: 3 heads: 4 patch: 2 }"});
  train(
      *model, [](int64_t count, int64_t first) { return square_clips(count, first, 4); }, 1500, 24,
      1e-3);
  EXPECT_GT(part_of_moving_squares(model->sample({1, 0, 32, {}, {}, 0})), 0.6);
}

TEST(SuperResolution, IsNearerToTheTruthThanLargerPixels) {
  auto model = square_model(1, {"model.diffusion.upscale=2"});
  train(
      *model, [](int64_t count, int64_t first) { return square_clips(count, first, 1); }, 500, 24);
  const Clips truth = square_clips(32, kUnseen, 1);
  const at::Tensor made = model->reconstruct(truth);
  const at::Tensor small = at::avg_pool2d(frames_as_images(truth.x_BTHWC), 2);
  const at::Tensor large = at::upsample_nearest2d(small, {8, 8});
  const double blocky = mean_square(large, frames_as_images(truth.x_BTHWC));
  EXPECT_LT(mean_square(made, truth.x_BTHWC), 0.2 * blocky);
  // A small clip that was brought is made as large as one of its own.
  SampleRequest request{truth.seed, truth.first_position, 32, {}, {}, 0};
  request.small_BTHWC = images_as_frames(small, 1);
  EXPECT_TRUE(at::allclose(model->sample(request), made, 1e-4, 1e-4));
}

TEST(TemporalUpsampling, FramesBetweenAreNearerToTheTruthThanCopies) {
  auto model = square_model(5, {"model.diffusion.frames=BETWEEN"});
  train(
      *model, [](int64_t count, int64_t first) { return square_clips(count, first, 5); }, 500, 24);
  for (const int64_t frames : {5, 9}) {  // as long as trained on, and longer
    const Clips truth = square_clips(24, kUnseen, frames);
    SampleRequest request{7, 0, 24, {}, truth.x_BTHWC.slice(1, 0, frames, 2), 0};
    const at::Tensor made = model->sample(request);
    ASSERT_EQ(made.size(1), frames);
    EXPECT_TRUE(at::equal(made.slice(1, 0, frames, 2), request.given_BTHWC));
    const at::Tensor between = truth.x_BTHWC.slice(1, 1, frames, 2);
    const double copied = mean_square(truth.x_BTHWC.slice(1, 0, frames - 1, 2), between);
    EXPECT_LT(mean_square(made.slice(1, 1, frames, 2), between), 0.3 * copied) << frames;
  }
}

// A tokenizer that has learnt the squares, as an export gives it: five frames in three steps of
// time.
ExportedModel learnt_tokenizer() {
  const Config config = load_config(
      "",
      {"model.cvivit={ width: 48 patch: 2 temporal_patch: 2 spatial_layers: 1 temporal_layers: 1 "
       "heads: 4 head_width: 16 quantiser { variational { dim: 8 kl: 1e-5 } } }"});
  const auto tokenizer = make_tokenizer(config, {5, 8, 8, 1}, at::kCPU);
  train(
      *tokenizer, [](int64_t count, int64_t first) { return square_clips(count, first, 5); }, 800,
      16, 2e-3);
  const Clips unseen = square_clips(24, kUnseen, 5);
  EXPECT_LT(mean_square(tokenizer->reconstruct(unseen), unseen.x_BTHWC), 0.04);  // 20 dB
  EXPECT_EQ(tokenizer->latents(unseen.x_BTHWC).sizes(), (std::vector<int64_t>{24, 3, 4, 4, 8}));
  ExportedModel exported{config, {}};
  for (const NamedTensor& weight : tokenizer->parameters().weights()) {
    exported.tensors.push_back({weight.name, weight.tensor.detach()});
  }
  return exported;
}

TEST(LatentDiffusion, MakesVideosOutOfFewerLatentSteps) {
  const ExportedModel tokenizer = learnt_tokenizer();
  const Config config =
      square_config({"model.diffusion.tokenizer=learnt", "model.unet.attention=4"});
  DiffusionModel model(config, {5, 8, 8, 1}, at::kCPU, {},
                       [&](const std::string& /*file*/) { return tokenizer; });
  train(
      model, [](int64_t count, int64_t first) { return square_clips(count, first, 5); }, 3000, 24);
  const at::Tensor made = model.sample({1, 0, 32, {}, {}, 0});
  EXPECT_EQ(made.size(1), 5);
  EXPECT_GT(part_of_moving_squares(made), 0.5);
  // Frames that are given come back as they are, and continue as they began.
  const Clips truth = square_clips(16, kUnseen, 5);
  const at::Tensor given = truth.x_BTHWC.slice(1, 0, 3);
  const at::Tensor after = model.sample({2, 0, 16, {}, given, 5});
  EXPECT_TRUE(at::equal(after.slice(1, 0, 3), given));
}

TEST(ClassConditioning, SamplesShowTheirClassAndGuidanceMore) {
  auto model = square_model(1, {"model.diffusion.classes=3", "model.unet.width=16",
                                "model.diffusion.condition_dropout=0.3"});
  // A class is a grey level, with some noise.
  const auto clips_at = [](int64_t count, int64_t first) {
    Clips clips{at::zeros({count, 1}), at::zeros({count}, at::kLong), 5, first};
    for (int64_t i = 0; i < count; ++i) clips.labels_B[i] = (first + i) % 3;
    const at::Tensor noise = keyed_normal(clips, Purpose::kGenerated, 0, {1, 8, 8, 1});
    clips.x_BTHWC = 0.1 * noise + (clips.labels_B - 1).reshape({count, 1, 1, 1, 1}) * 0.6;
    return clips;
  };
  train(*model, clips_at, 900, 24);
  for (int64_t label = 0; label < 3; ++label) {
    const at::Tensor made = model->sample({1, 0, 16, at::full({16}, label, at::kLong), {}, 0});
    EXPECT_NEAR(made.mean().item<double>(), 0.6 * static_cast<double>(label - 1), 0.1) << label;
  }
  // Without a class all come up.
  const at::Tensor any =
      model->sample({1, 0, 48, at::full({48}, -1, at::kLong), {}, 0}).mean({1, 2, 3, 4});
  EXPECT_GT(any.std().item<double>(), 0.3);
}

// Images of one colour each, 16 of them.
Clips sixteen_images(int64_t count, int64_t first) {
  Clips clips{at::zeros({count, 1, 8, 8, 1}), at::full({count}, -1, at::kLong), 5, first};
  for (int64_t i = 0; i < count; ++i) {
    clips.x_BTHWC[i] = square_clip(square_of((first + i) % 16), 1);
  }
  return clips;
}

TEST(Ddpm, LossOnSixteenImagesFallsBelowATenthOfItsStart) {
  auto model =
      square_model(1, {"model.diffusion.schedule=LINEAR", "model.diffusion.prediction=NOISE"});
  EXPECT_LT(train(*model, sixteen_images, 600, 32), 0.1);
}

TEST(ImprovedDdpm, BoundIsFiniteAndFallsWithTraining) {
  auto model = square_model(
      1, {"model.diffusion.schedule=COSINE", "model.diffusion.steps=100",
          "model.diffusion.prediction=NOISE", "model.diffusion.learned_variance=true"});
  const auto bound = [&] {
    const at::NoGradGuard no_grad;
    const Clips clips = sixteen_images(16, 0);
    uint32_t draw = 100;
    SamplerParts parts;
    parts.noise = [&] {
      return keyed_normal(clips, Purpose::kDiffusionNoise, draw++, {1, 8, 8, 1});
    };
    parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
      return model->estimate(z, {{0}, {FrameRole::kLatent}}, {level}, {});
    };
    return bits_per_element(model->schedule(), clips.x_BTHWC, parts);
  };
  const double before = bound();
  train(*model, sixteen_images, 100, 32);
  const double soon = bound();
  train(*model, sixteen_images, 300, 32);
  const double later = bound();
  EXPECT_TRUE(std::isfinite(before) && std::isfinite(later));
  EXPECT_LT(soon, before);
  EXPECT_LT(later, soon);
}

TEST(Objectives, AllLearnTheData) {
  const std::vector<std::string> objectives[] = {
      {"model.diffusion.schedule=EDM", "model.diffusion.prediction=PRECONDITIONED",
       "model.diffusion.weight=EDM_WEIGHT", "model.diffusion.sampler.kind=HEUN",
       "model.diffusion.sampler.steps=12"},
      {"model.diffusion.schedule=FLOW", "model.diffusion.prediction=VELOCITY",
       "model.diffusion.sampler.kind=EULER"},
      {"model.diffusion.schedule=COSINE", "model.diffusion.prediction=NOISE",
       "model.diffusion.weight=MIN_SNR"},
      {"model.diffusion.schedule=COSINE", "model.diffusion.prediction=V",
       "model.diffusion.zero_terminal_snr=true", "model.diffusion.sampler.kind=DDIM"}};
  const at::Tensor known = sixteen_images(16, 0).x_BTHWC;
  for (const auto& objective : objectives) {
    auto model = square_model(1, objective);
    train(*model, sixteen_images, 400, 32);
    const at::Tensor made = model->sample({1, 0, 16, {}, {}, 0});
    double nearest = 0;
    for (int64_t i = 0; i < 16; ++i) {
      nearest += (known - made[i]).square().mean({1, 2, 3, 4}).min().item<double>() / 16;
    }
    EXPECT_LT(nearest, 0.2) << objective[0];  // two squares side by side differ by more
  }
}

// The theory of pseudo videos measured: pixels are normal, so the least loss of the image given its
// corrupted frames and its own noisy version is known.
TEST(TheoryOfPseudoVideos, AnEarlierFrameHelpsOnTheStarAndNotOnTheChain) {
  const double alpha1 = std::sqrt(0.5), alpha2 = std::sqrt(0.2);  // of y1, y2: nearer, farther
  const auto clips_at = [&](bool star) {
    return [=](int64_t count, int64_t first) {
      Clips clips{at::zeros({count, 1}), at::full({count}, -1, at::kLong), 5, first};
      const auto normal = [&](uint32_t layer) {
        return keyed_normal(clips, Purpose::kGenerated, layer, {4, 4, 1});
      };
      const at::Tensor x = normal(0), y1 = alpha1 * x + std::sqrt(0.5) * normal(1);
      const double step = alpha2 / alpha1;
      const at::Tensor y2 = star ? alpha2 * x + std::sqrt(0.8) * normal(2)
                                 : step * y1 + std::sqrt(1 - step * step) * normal(2);
      clips.x_BTHWC = at::stack({y2, y1, x}, 1);
      return clips;
    };
  };
  const auto loss = [&](bool star, int history) {
    DiffusionModel model(
        load_config("",
                    {"model.unet.width=16", "model.unet.multipliers=1", "model.unet.blocks=1",
                     "model.unet.attention=4", "model.unet.scale_shift=true",
                     "model.diffusion.schedule=COSINE_LOG_SNR", "model.diffusion.prediction=IMAGE",
                     "model.diffusion.frames=LAST", str("model.diffusion.history=", history)}),
        {3, 4, 4, 1}, at::kCPU);
    train(model, clips_at(star), 700, 64, 4e-3);
    double sum = 0;
    for (int64_t i = 0; i < 16; ++i) {
      const at::NoGradGuard no_grad;
      sum += model.loss(clips_at(star)(256, kUnseen + 256 * i), 0, false).total.item<double>();
    }
    return sum / 16;
  };
  const auto least = [&](double snr) {  // of the frames; the mean over the noise levels
    DiffusionConfig config;
    config.set_schedule(DiffusionConfig::COSINE_LOG_SNR);
    const NoiseSchedule schedule(config, 4);
    double sum = 0;
    for (int i = 0; i < 1000; ++i) {
      sum += 1 / (1 + snr + std::exp(schedule.at((i + 0.5) / 1000).log_snr())) / 1000;
    }
    return sum;
  };
  const double near_snr = 1, far_snr = 0.25;
  const double gap = least(near_snr) - least(near_snr + far_snr);
  const double star1 = loss(true, 1), star2 = loss(true, 2), chain1 = loss(false, 1),
               chain2 = loss(false, 2);
  EXPECT_NEAR(star1, least(near_snr), 0.25 * gap);
  EXPECT_NEAR(star1 - star2, gap, 0.4 * gap);
  EXPECT_NEAR(chain1 - chain2, 0, 0.3 * gap);
}

}  // namespace
}  // namespace lf
