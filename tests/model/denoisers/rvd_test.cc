// Residual video diffusion: what its recurrent networks may depend on, that the parts of a frame
// add up, and that states belong to one sequence each. What it learns is tested in tests/slow.
#include "model/denoisers/rvd.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/error_of.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

using Sets = std::vector<std::string>;

std::unique_ptr<Rvd> small_rvd(int frames, const Sets& more = {}, bool awake = true) {
  Sets sets = {"model.rvd.width=8",
               "model.rvd.mean_multipliers=1,2",
               "model.rvd.multipliers=1,2",
               "model.rvd.given=3",
               "model.diffusion.schedule=COSINE_LOG_SNR",
               "model.diffusion.sampler.steps=4"};
  sets.insert(sets.end(), more.begin(), more.end());
  auto model = std::make_unique<Rvd>(load_config("", sets), ClipShape{frames, 8, 8, 3}, at::kCPU,
                                     SumOverRanks{});
  if (awake) wake_up(model->parameters());
  return model;
}

// A forecast of some frames, of the frame after each: [T, B, ...].
at::Tensor means(const Rvd& model, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  Rvd::State state;
  return model.forecast(x, state).mean.unflatten(0, {x.size(1), x.size(0)});
}

TEST(ResidualDiffusion, ForecastsDependOnEarlierFramesOnly) {
  const auto model = small_rvd(6);
  const at::Tensor x = some_numbers({2, 6, 8, 8, 3}, 1);
  const at::Tensor before = means(*model, x);
  for (int64_t changed = 0; changed < 6; ++changed) {
    at::Tensor other = x.clone();
    other.select(1, changed).add_(1);
    const at::Tensor after = means(*model, other);
    EXPECT_TRUE(at::equal(after.slice(0, 0, changed), before.slice(0, 0, changed))) << changed;
    for (int64_t later = changed; later < 6; ++later) {
      EXPECT_FALSE(at::equal(after[later], before[later])) << changed << " " << later;
    }
  }
}

// Training processes all frames at once, sampling one after the other.
TEST(ResidualDiffusion, FrameByFrameIsTheSameAsAllTogether) {
  const auto model = small_rvd(5);
  const at::Tensor x = some_numbers({2, 5, 8, 8, 3}, 2), together = means(*model, x);
  const at::NoGradGuard no_grad;
  Rvd::State state;
  for (int64_t frame = 0; frame < 5; ++frame) {
    const at::Tensor mean = model->forecast(x.slice(1, frame, frame + 1), state).mean;
    EXPECT_TRUE(at::allclose(mean, together[frame], 1e-4, 1e-5)) << frame;
  }
}

TEST(ResidualDiffusion, MeanAndResidualAddUpToTheFrame) {
  for (const char* scale : {"false", "true"}) {
    const auto model = small_rvd(5, {str("model.rvd.running_scale=", scale)});
    model->loss(some_clips(4, 5), 0, true);
    model->after_update(4, at::ones({}));
    const at::NoGradGuard no_grad;
    const at::Tensor given = some_numbers({2, 3, 8, 8, 3}, 3).clamp(-1, 1);
    SampleRequest request;
    request.seed = 4;
    request.count = 2;
    request.given_BTHWC = given;
    request.frames = 4;
    const at::Tensor made = model->sample(request);
    ASSERT_TRUE(at::equal(made.slice(1, 0, 3), given));
    Clips keys = some_clips(2, 1);
    keys.seed = 4;
    uint32_t draws = 0;
    Rvd::State state;
    const auto next = model->next_frame(model->forecast(given, state), 2, [&] {
      return keyed_normal(keys, Purpose::kSampling, draws++, {8, 8, 3});
    });
    EXPECT_GT(next.residual.abs().max().item<double>(), 1e-3);
    EXPECT_TRUE(
        at::allclose((next.mean + next.residual).clamp(-1, 1), made.select(1, 3), 1e-4, 1e-5));
  }
}

// Every sequence has its own states, initially zero.
TEST(RecurrentStates, ClipsDoNotDependOnEachOtherNorOnEarlierCalls) {
  const auto model = small_rvd(5);
  const at::Tensor given = some_numbers({3, 3, 8, 8, 3}, 3).clamp(-1, 1);
  const auto made = [&](int64_t first, int64_t count) {
    SampleRequest request;
    request.seed = 4;
    request.first = first;
    request.count = count;
    request.given_BTHWC = given.slice(0, first, first + count);
    request.frames = 6;
    return model->sample(request);
  };
  const at::Tensor all = made(0, 3);
  EXPECT_TRUE(at::equal(made(0, 3), all));
  for (int64_t clip = 0; clip < 3; ++clip) {
    EXPECT_TRUE(at::allclose(made(clip, 1), all.slice(0, clip, clip + 1), 1e-3, 1e-4)) << clip;
  }
}

TEST(RecurrentStates, BatchOrderChangesNoLoss) {
  const auto model = small_rvd(5);
  const Clips clips = some_clips(4, 5, 70);
  double apart = 0;
  for (int64_t clip : {3, 1, 0, 2}) {
    apart += model->loss(clips.slice(clip, clip + 1), 0, false).total.item<double>() / 4;
  }
  EXPECT_NEAR(model->loss(clips, 0, false).total.item<double>(), apart, 1e-4);
}

// A network of zeros has the noise's mean square as its loss; with weight 1 the mean's error adds
// to it.
TEST(ResidualDiffusion, LossIsOfFramesAfterTheWarmUp) {
  const auto model = small_rvd(5, {"model.rvd.mean_weight=0"}, false);
  const Clips clips = some_clips(32, 5);
  const Loss loss = model->loss(clips, 0, false);
  EXPECT_NEAR(loss.total.item<double>(), 1, 0.05);
  const at::Tensor ahead = means(*model, clips.x_BTHWC.slice(1, 0, 4)).slice(0, 1);
  const at::Tensor residual =
      clips.x_BTHWC.slice(1, 2).permute({1, 0, 4, 2, 3}) - ahead;  // [T, B, C, H, W]
  EXPECT_NEAR(loss.terms[1].tensor.item<double>(), residual.square().mean().item<double>(), 1e-4);
  const auto absolute =
      small_rvd(5, {"model.rvd.mean_weight=0", "model.diffusion.error=L1"}, false);
  EXPECT_NEAR(absolute->loss(clips, 0, false).total.item<double>(), std::sqrt(2 / M_PI), 0.02);
}

TEST(ResidualDiffusion, GradientsReachEveryWeightOfTheNetworks) {
  for (const Sets& sets : {Sets{}, Sets{"train.recompute=true", "model.rvd.running_scale=true"}}) {
    const auto model = small_rvd(5, sets);
    model->loss(some_clips(2, 5), 0, true).total.backward();
    for (const NamedTensor& weight : model->parameters().weights()) {
      ASSERT_TRUE(weight.tensor.grad().defined()) << weight.name;
      EXPECT_TRUE(weight.tensor.grad().isfinite().all().item<bool>()) << weight.name;
      if (weight.tensor.dim() == 1) continue;  // a norm of single channels takes biases away
      EXPECT_GT(weight.tensor.grad().abs().max().item<double>(), 0) << weight.name;
    }
  }
}

// The last forecast's gradient with respect to frames before the cut is zero.
TEST(ResidualDiffusion, BackPropagationIsTruncated) {
  const auto reached = [](int back_frames) {
    const auto model = small_rvd(6, {str("model.rvd.back_frames=", back_frames)});
    at::Tensor x = some_numbers({1, 6, 8, 8, 3}, 1).set_requires_grad(true);
    Rvd::State state;
    model->forecast(x, state).mean[5].square().sum().backward();
    std::vector<bool> found;
    for (int64_t t = 0; t < 6; ++t) {
      found.push_back(x.grad().select(1, t).abs().max().item<double>() > 0);
    }
    return found;
  };
  EXPECT_EQ(reached(0), (std::vector<bool>{true, true, true, true, true, true}));
  EXPECT_EQ(reached(2), (std::vector<bool>{false, false, false, false, true, true}));
}

TEST(ResidualDiffusion, RunningScaleIsTheResidualsDeviation) {
  const auto model = small_rvd(5, {"model.rvd.running_scale=true"});
  EXPECT_EQ(model->scale(), 1);
  const Loss loss = model->loss(some_clips(8, 5), 0, true);
  model->after_update(8, at::ones({}));
  EXPECT_NEAR(model->scale(), std::sqrt(loss.terms[1].tensor.item<double>()), 1e-4);
  // Another batch moves it a little; validation does not.
  const double before = model->scale();
  model->loss(some_clips(8, 5, 100), 0, true);
  model->after_update(8, at::ones({}));
  const double after = model->scale();
  EXPECT_NE(after, before);
  EXPECT_NEAR(after, before, 0.02 * before);
}

TEST(Rvd, OptionsThatDoNotApplyAreRefused) {
  const auto refused = [](const Sets& sets) {
    return error_of(Code::kUsage, [&] { small_rvd(5, sets); });
  };
  EXPECT_TRUE(contains(refused({"model.rvd.given=5"}), "given is 5"));
  EXPECT_TRUE(contains(refused({"model.rvd.warm_up=4"}), "warm_up 4"));
  EXPECT_TRUE(contains(refused({"model.diffusion.classes=3"}), "classes"));
  EXPECT_TRUE(contains(refused({"model.diffusion.frames=PREDICT"}), "frames"));
  EXPECT_TRUE(contains(refused({"model.rvd.multipliers=1,2,4,8,16"}), "5 levels"));
  const auto model = small_rvd(5);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { model->sample({}); }), "first 2 frames"));
  SampleRequest request;
  request.given_BTHWC = at::zeros({1, 3, 8, 8, 3});
  request.given_frames = {0, 1, 3};
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { model->sample(request); }), "in a row"));
}

}  // namespace
}  // namespace lf
