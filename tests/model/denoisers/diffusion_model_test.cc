#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/error_of.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

using Sets = std::vector<std::string>;

// Every frame task, objective and noise level of the loss.
const Sets kLosses[] = {
    {},
    {"model.unet.dropout=0.3", "model.diffusion.last_frame_weight=4"},
    {"model.diffusion.schedule=COSINE", "model.diffusion.learned_variance=true"},
    {"model.diffusion.schedule=EDM", "model.diffusion.prediction=PRECONDITIONED",
     "model.diffusion.weight=EDM_WEIGHT", "model.diffusion.level_per_frame=true"},
    {"model.diffusion.schedule=FLOW", "model.diffusion.prediction=VELOCITY"},
    {"model.diffusion.schedule=COSINE_LOG_SNR", "model.diffusion.prediction=V",
     "model.diffusion.weight=MIN_SNR", "model.diffusion.classes=4"},
    {"model.diffusion.frames=AUTOREGRESSIVE", "model.diffusion.history=2"},
    {"model.diffusion.frames=LAST", "model.diffusion.history=2"},
    {"model.diffusion.frames=PREDICT", "model.diffusion.given=2"},
    {"model.diffusion.frames=BETWEEN", "model.diffusion.stride=3"},
    {"model.diffusion.upscale=2", "model.diffusion.upscale_noise=0.2"},
    {"model.unet.scaled_sums=true"},
    {"model.dit={ width: 16 layers: 2 heads: 2 }"},
};

Clips labelled(Clips clips) {
  clips.labels_B = at::arange(clips.size()) % 4;
  return clips;
}

TEST(DiffusionModel, LossOfABatchIsTheMeanOfItsSlices) {
  for (const Sets& sets : kLosses) {
    const auto model = small_model(4, sets);
    wake_up(model->parameters());
    const Clips all = labelled(some_clips(4, 4, 40));
    const at::Tensor whole = model->loss(all, 0, true).total;
    const at::Tensor parts = (model->loss(all.slice(0, 1), 0, true).total +
                              3 * model->loss(all.slice(1, 4), 0, true).total) /
                             4;
    EXPECT_TRUE(whole.isfinite().item<bool>());
    EXPECT_TRUE(at::allclose(whole, parts, 1e-4, 1e-5)) << join(sets, " ");
  }
}

TEST(DiffusionModel, GradientsReachEveryWeight) {
  for (const Sets& sets : kLosses) {
    const auto model = small_model(4, sets);
    wake_up(model->parameters());
    model->loss(labelled(some_clips(8, 4)), 0, true).total.backward();
    for (const NamedTensor& weight : model->parameters().weights()) {
      ASSERT_TRUE(weight.tensor.grad().defined()) << join(sets, " ") << ": " << weight.name;
      EXPECT_TRUE(weight.tensor.grad().isfinite().all().item<bool>()) << weight.name;
    }
  }
}

TEST(DiffusionModel, RecomputedBlocksGiveTheSameBits) {
  const Sets networks[] = {
      {"model.unet.dropout=0.3"},
      {"model.unet3d={dim: 16 multipliers: 1 multipliers: 2 heads: 2 head_width: 8}"},
      {"model.dit={width: 16 layers: 2 heads: 2}"}};
  for (const Sets& network : networks) {
    const auto gradients = [&](const std::string& recompute) {
      Sets sets = network;
      sets.push_back("train.recompute=" + recompute);
      const auto model = small_model(3, sets);
      wake_up(model->parameters());
      const at::Tensor loss = model->loss(some_clips(2, 3), 0, true).total;
      loss.backward();
      std::vector<at::Tensor> all = {loss.detach()};
      for (const NamedTensor& weight : model->parameters().weights()) {
        all.push_back(weight.tensor.grad());
      }
      return all;
    };
    const auto plain = gradients("false"), again = gradients("true");
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i])) << i;
  }
}

// A network with zero output has the target's mean square as its loss.
TEST(DiffusionModel, FirstLossIsTheTargetsMeanSquare) {
  const auto loss = [](const Sets& sets) {
    return small_model(2, sets)->loss(some_clips(64, 2), 0, false).total.item<double>();
  };
  const double image = 1.0 / 3;  // of uniform pixels in [-1, 1]
  EXPECT_NEAR(loss({}), 1, 0.03);
  EXPECT_NEAR(loss({"model.diffusion.prediction=IMAGE"}), image, 0.01);
  EXPECT_NEAR(loss({"model.diffusion.schedule=FLOW", "model.diffusion.prediction=VELOCITY"}),
              1 + image, 0.05);
  EXPECT_NEAR(loss({"model.diffusion.schedule=EDM", "model.diffusion.prediction=PRECONDITIONED",
                    "model.diffusion.sigma_data=0.57735", "model.diffusion.weight=EDM_WEIGHT"}),
              1, 0.05);
}

TEST(DiffusionModel, FirstAbsoluteLossIsTheTargetsMeanSize) {
  const auto loss = [](const Sets& sets) {
    Sets all = {"model.diffusion.error=L1"};
    all.insert(all.end(), sets.begin(), sets.end());
    return small_model(2, all)->loss(some_clips(64, 2), 0, false).total.item<double>();
  };
  EXPECT_NEAR(loss({}), std::sqrt(2 / M_PI), 0.02);  // of N(0, 1)
  EXPECT_NEAR(loss({"model.diffusion.prediction=IMAGE"}), 0.5, 0.01);
  // EDM's weight makes the target's variance 1 at every level: its root is that of the size.
  const Sets edm = {"model.diffusion.schedule=EDM", "model.diffusion.prediction=PRECONDITIONED",
                    "model.diffusion.sigma_data=0.57735"};
  Sets weighted = edm;
  weighted.emplace_back("model.diffusion.weight=EDM_WEIGHT");
  EXPECT_NEAR(loss(weighted), loss(edm), 1e-5);
}

TEST(DiffusionModel, LastFrameWeightWeighsTheLastFrame) {
  const Clips clips = some_clips(3, 4);
  const Loss plain = small_model(4)->loss(clips, 0, false);
  const double mean = plain.terms[0].tensor.item<double>();
  ASSERT_EQ(plain.terms[1].name, "last_frame");
  const double last = plain.terms[1].tensor.item<double>();
  const Loss weighted =
      small_model(4, {"model.diffusion.last_frame_weight=5"})->loss(clips, 0, false);
  EXPECT_NEAR(weighted.total.item<double>(), (4 * mean + 4 * last) / 8, 1e-5);
}

// Independent images beside a video lower the variance of gradients.
TEST(DiffusionModel, ImagesBesideAVideoLowerTheGradientsVariance) {
  const auto relative_variance = [](int images) {
    const auto model = small_model(3, {str("model.diffusion.images=", images)});
    wake_up(model->parameters());
    std::vector<at::Tensor> gradients;
    for (int64_t i = 0; i < 24; ++i) {
      Clips clip = some_clips(1, 3, i);
      if (images > 0) clip.images_BNHWC = some_clips(1, images, 1000 + i).x_BTHWC;
      model->loss(clip, 0, true).total.backward();
      std::vector<at::Tensor> all;
      for (const NamedTensor& weight : model->parameters().weights()) {
        all.push_back(weight.tensor.grad().flatten().clone());
        weight.tensor.mutable_grad().reset();
      }
      gradients.push_back(at::cat(all));
    }
    const at::Tensor stacked = at::stack(gradients);
    const at::Tensor mean = stacked.mean(0);
    return ((stacked - mean).square().sum() / mean.square().sum()).item<double>();
  };
  const double none = relative_variance(0), four = relative_variance(4);
  RecordProperty("without_images", std::to_string(none));
  RecordProperty("with_four_images", std::to_string(four));
  EXPECT_LT(four, 0.8 * none);
}

TEST(DiffusionModel, ShownSmallClipsAndGivenFramesAreChecked) {
  const auto model = small_model(2, {"model.diffusion.upscale=2", "model.diffusion.classes=3"});
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  model->sample({1, 0, 2, {}, {}, 0});
                                }),
                       "small clips of 4x4x3"));
  SampleRequest request{1, 0, 2, {}, {}, 0};
  request.small_BTHWC = at::zeros({2, 2, 8, 8, 3});
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { model->sample(request); }), "takes 4x4x3"));
  request.small_BTHWC = at::zeros({2, 2, 4, 4, 3});
  EXPECT_EQ(model->sample(request).sizes(), (std::vector<int64_t>{2, 2, 8, 8, 3}));
  request.labels_B = at::full({2}, 3, at::kLong);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { model->sample(request); }), "class 3"));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  Clips clips = some_clips(2, 2);
                                  clips.labels_B.fill_(7);
                                  model->loss(clips, 0, true);
                                }),
                       "label 7"));
}

// Another low-resolution clip gives another loss of the same noisy clip.
TEST(DiffusionModel, OfSuperResolutionSeesTheSmallClip) {
  const auto model = small_model(1, {"model.diffusion.upscale=2"});
  wake_up(model->parameters());
  const at::NoGradGuard no_grad;
  const at::Tensor z = some_clips(2, 1).x_BTHWC;
  const NoiseLevel level = model->schedule().step(50);
  const FrameWindow window{{0}, {FrameRole::kLatent}};
  const auto image = [&](double grey) {
    return model->estimate(z, window, {level}, {{}, {}, at::full_like(z, grey)}).image;
  };
  EXPECT_FALSE(at::allclose(image(0.5), image(-0.5), 1e-4, 1e-4));
}

// The loss of one frame depends on its own noise and the frames it is conditioned on.
TEST(DiffusionModel, AutoregressiveLossDoesNotSeeBeyondItsHistory) {
  const auto loss = [](const Sets& sets, int64_t changed) {
    Sets all = {"model.diffusion.frames=LAST"};
    all.insert(all.end(), sets.begin(), sets.end());
    const auto model = small_model(4, all);
    wake_up(model->parameters());
    const Clips clips = some_clips(2, 4);
    if (changed >= 0) clips.x_BTHWC.select(1, changed).neg_();
    return model->loss(clips, 0, false).total.item<double>();
  };
  for (const int history : {1, 2, 3}) {
    const Sets sets = {str("model.diffusion.history=", history)};
    const double before = loss(sets, -1);
    for (int64_t frame = 0; frame < 4; ++frame) {
      EXPECT_EQ(loss(sets, frame) == before, frame < 3 - history) << history << " " << frame;
    }
  }
}

const Sets kSamplings[] = {
    {},
    {"model.diffusion.prediction=V", "model.diffusion.sampler.kind=DPM",
     "model.diffusion.sampler.spacing=LOG_SNR"},
    {"model.diffusion.learned_variance=true"},
    {"model.diffusion.frames=AUTOREGRESSIVE", "model.diffusion.history=2"},
    {"model.diffusion.classes=3", "model.diffusion.sampler.guidance=2"},
};

// Clips do not depend on the batch they are made in.
TEST(DiffusionModel, SamplesAreTheSameInAnyBatches) {
  for (const Sets& sets : kSamplings) {
    const auto model = small_model(3, sets);
    wake_up(model->parameters());
    const at::Tensor whole = model->sample({9, 20, 5, {}, {}, 0});
    const at::Tensor parts =
        at::cat({model->sample({9, 20, 2, {}, {}, 0}), model->sample({9, 22, 3, {}, {}, 0})});
    EXPECT_EQ(whole.sizes(), (std::vector<int64_t>{5, 3, 8, 8, 3}));
    EXPECT_LE(whole.abs().max().item<double>(), 1);
    EXPECT_TRUE(at::allclose(whole, parts, 1e-4, 1e-4)) << join(sets, " ");
    const auto bytes = [](const at::Tensor& x) { return ((x + 1) * 127.5).round(); };
    EXPECT_GT((bytes(whole) == bytes(parts)).to(at::kFloat).mean().item<double>(), 0.999);
    EXPECT_FALSE(at::allclose(whole, model->sample({8, 20, 5, {}, {}, 0}), 1e-2, 1e-2));
    EXPECT_TRUE(at::equal(whole, model->sample({9, 20, 5, {}, {}, 0})));
  }
}

// Given frames come back as they were, whichever way they are respected.
TEST(DiffusionModel, GivenFramesComeBackUntouched) {
  const at::Tensor given = some_clips(2, 2).x_BTHWC;
  for (const Sets& sets :
       {Sets{}, Sets{"train.recompute=true"}, Sets{"model.diffusion.sampler.given=REPLACE"},
        Sets{"model.diffusion.level_per_frame=true"}, Sets{"model.diffusion.frames=AUTOREGRESSIVE"},
        Sets{"model.diffusion.frames=PREDICT", "model.diffusion.given=2"}}) {
    const auto model = small_model(4, sets);
    wake_up(model->parameters());
    for (const int64_t frames : {3, 4, 9}) {
      const at::Tensor made = model->sample({1, 0, 2, {}, given, frames});
      EXPECT_EQ(made.size(1), frames);
      EXPECT_TRUE(at::equal(made.slice(1, 0, 2), given)) << join(sets, " ");
      EXPECT_TRUE(made.isfinite().all().item<bool>());
      EXPECT_GT(made.slice(1, -1).std().item<double>(), 0);
    }
    for (const NamedTensor& weight : model->parameters().weights()) {
      EXPECT_FALSE(weight.tensor.grad().defined()) << weight.name;
    }
  }
  const auto last = small_model(3, {"model.diffusion.frames=LAST"});
  EXPECT_TRUE(at::equal(last->sample({1, 0, 2, {}, given, 0}).slice(1, 0, 2), given));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  last->sample({1, 0, 2, {}, {}, 0});
                                }),
                       "the last of 3 frames"));
}

// Guidance 1 is the conditional estimate, 0 the unconditional one, bit for bit.
TEST(DiffusionModel, GuidanceAtOneIsTheClassAndAtZeroUnconditional) {
  const auto made = [](const std::string& guidance, int64_t label) {
    const auto model = small_model(
        1, {"model.diffusion.classes=3", "model.diffusion.sampler.guidance=" + guidance});
    wake_up(model->parameters());
    return model->sample({1, 0, 2, at::full({2}, label, at::kLong), {}, 0});
  };
  EXPECT_TRUE(at::equal(made("0", 1), made("1", -1)));
  EXPECT_TRUE(at::equal(made("0", 1), made("0", 2)));
  EXPECT_FALSE(at::equal(made("1", 1), made("1", 2)));
  EXPECT_FALSE(at::equal(made("3", 1), made("1", 1)));
}

// One step returns the estimate; guidance 2 moves it as far beyond the conditional estimate as that
// is from the unconditional one.
TEST(DiffusionModel, GuidanceGoesBeyondTheClassAlongTheLine) {
  const auto made = [](const char* guidance) {
    const auto model = small_model(
        3, {"model.diffusion.classes=3", "model.diffusion.prediction=IMAGE",
            "model.diffusion.sampler.steps=1", str("model.diffusion.sampler.guidance=", guidance)});
    wake_up(model->parameters());
    return model->sample({1, 0, 2, at::full({2}, 1, at::kLong), {}, 0});
  };
  const at::Tensor none = made("0"), own = made("1"), beyond = made("3");
  const at::Tensor inside = (none.abs() < 0.99).logical_and(own.abs() < 0.99);
  EXPECT_GT(inside.to(at::kFloat).mean().item<double>(), 0.2);
  const at::Tensor line = (none + 3 * (own - none)).clamp(-1, 1);
  EXPECT_GT((own - none).abs().max().item<double>(), 1e-3);
  EXPECT_LT((beyond - line).masked_select(inside).abs().max().item<double>(), 1e-4);
}

TEST(DiffusionModel, ClassesThatAreNotGivenAreDrawnByTheClip) {
  const auto model = small_model(1, {"model.diffusion.classes=3"});
  wake_up(model->parameters());
  std::vector<at::Tensor> by_class;
  for (int64_t label = 0; label < 3; ++label) {
    by_class.push_back(model->sample({1, 0, 12, at::full({12}, label, at::kLong), {}, 0}));
  }
  const at::Tensor drawn = model->sample({1, 0, 12, {}, {}, 0});
  std::vector<int> times(3);
  for (int64_t clip = 0; clip < 12; ++clip) {
    for (size_t label = 0; label < 3; ++label) {
      times[label] += at::allclose(drawn[clip], by_class[label][clip], 1e-4, 1e-5) ? 1 : 0;
    }
  }
  EXPECT_EQ(times[0] + times[1] + times[2], 12);
  for (const int of_class : times) EXPECT_GT(of_class, 0);
}

// Frames of noisy pseudo videos exceed [-1, 1]; only their last frame is clipped.
TEST(DiffusionModel, FramesOfNoisyRecipesAreNotClippedInSampling) {
  // A network with zero output: the estimate is z / alpha, which the first step clips or not.
  const auto made = [](const std::string& recipe) {
    return small_model(2, {"model.diffusion.sampler.steps=2", recipe})
        ->sample({1, 0, 4, {}, {}, 0});
  };
  const at::Tensor blur = made("recipe.blur={}"), noise = made("recipe.noise={}"),
                   both = made("recipe.composite.operators={blur {}},{noise {}}"),
                   grain = made("recipe.blur.noise=0.1");
  EXPECT_TRUE(at::equal(blur.select(1, 1), noise.select(1, 1)));
  EXPECT_FALSE(at::equal(blur.select(1, 0), noise.select(1, 0)));
  EXPECT_TRUE(at::equal(both, noise));
  EXPECT_TRUE(at::equal(grain, noise));
}

TEST(DiffusionModel, EstimateRecoversTheImageFromAKnownNetwork) {
  // A network with zero output and EDM's scaling: the estimate is c_skip z.
  const auto model =
      small_model(2, {"model.diffusion.schedule=EDM", "model.diffusion.prediction=PRECONDITIONED"});
  const at::NoGradGuard no_grad;
  const at::Tensor z = some_clips(2, 2).x_BTHWC;
  const NoiseLevel level = model->schedule().at_log_snr(0);  // sigma 1
  const FrameWindow window{{0, 1}, {FrameRole::kLatent, FrameRole::kLatent}};
  const Estimate estimate = model->estimate(z, window, {level, level}, {});
  EXPECT_TRUE(at::allclose(estimate.image, 0.2 * z, 1e-5, 1e-6));
}

TEST(DiffusionModel, OptionsThatContradictEachOtherAreUsageErrors) {
  const auto refused = [](int frames, const Sets& sets) {
    return error_of(Code::kUsage, [&] { small_model(frames, sets); });
  };
  EXPECT_TRUE(contains(
      refused(2, {"model.diffusion.schedule=FLOW", "model.diffusion.learned_variance=true"}),
      "learned_variance"));
  EXPECT_TRUE(contains(refused(2, {"model.diffusion.sampler.guidance=3"}), "neither classes"));
  EXPECT_TRUE(contains(refused(1, {"model.diffusion.frames=AUTOREGRESSIVE"}), "history is 1"));
  EXPECT_TRUE(contains(refused(2, {"model.diffusion.frames=PREDICT"}), "given is 5"));
  EXPECT_TRUE(contains(refused(2, {"model.diffusion.sampler.steps=101"}), "no more than the 100"));
  EXPECT_TRUE(contains(
      error_of(Code::kUsage,
               [] {
                 make_model(load_config("", {"model.autoencoder={}", "model.diffusion={}"}),
                            {2, 8, 8, 3}, at::kCPU);
               }),
      "leave it out"));
  EXPECT_TRUE(contains(refused(3, {"model.diffusion.frames=BETWEEN", "model.diffusion.stride=3"}),
                       "stride is 3"));
  EXPECT_TRUE(contains(refused(1, {"model.diffusion.upscale=3"}), "does not divide clips of 8x8"));
  EXPECT_TRUE(contains(refused(1, {"model.diffusion.text=caption"}), "loader.side"));
  EXPECT_TRUE(contains(refused(1, {"model.dit={ width: 16 heads: 3 }"}), "does not divide"));
}

}  // namespace
}  // namespace lf
