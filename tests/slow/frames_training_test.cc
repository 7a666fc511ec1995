// What models of any frames from any frames learn, on toy clips whose answer is known. Minutes on
// two cores: label `slow`.
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "model/denoisers/rvd.h"
#include "tests/slow/training_fixture.h"

namespace lf {
namespace {

constexpr int64_t kUnseen = 1 << 20;  // positions that training did not reach

double mean_square(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().mean().item<double>();
}

double part_of(const at::Tensor& yes) { return yes.to(at::kFloat).mean().item<double>(); }

ClipsAt squares(int64_t frames) {
  return [frames](int64_t count, int64_t first) { return square_clips(count, first, frames); };
}

std::vector<int64_t> row(int64_t count) {
  std::vector<int64_t> frames(static_cast<size_t>(count));
  std::iota(frames.begin(), frames.end(), 0);
  return frames;
}

// What a model makes of the first clips that it has not seen, from the frames of these indices.
struct Made {
  at::Tensor truth, made, given;
  std::vector<int64_t> indices;

  at::Tensor others() const {
    std::vector<int64_t> left;
    for (int64_t frame = 0; frame < truth.size(1); ++frame) {
      if (std::find(indices.begin(), indices.end(), frame) == indices.end()) left.push_back(frame);
    }
    return at::tensor(left, at::kLong);
  }
  double error() const {
    return mean_square(made.index_select(1, others()), truth.index_select(1, others()));
  }
  // The error of copying to every other frame the given one that is nearest in time.
  double copying() const {
    std::vector<at::Tensor> copies;
    const at::Tensor left = others();
    for (int64_t i = 0; i < left.size(0); ++i) {
      const auto frame = left[i].item<int64_t>();
      const auto nearest = std::min_element(
          indices.begin(), indices.end(),
          [&](int64_t a, int64_t b) { return std::abs(a - frame) < std::abs(b - frame); });
      copies.push_back(truth.select(1, *nearest));
    }
    return mean_square(at::stack(copies, 1), truth.index_select(1, left));
  }
};

Made made_from(Model& model, std::vector<int64_t> indices, int64_t frames, int64_t count = 24) {
  Made result;
  result.truth = square_clips(count, kUnseen, frames).x_BTHWC;
  result.indices = std::move(indices);
  result.given = result.truth.index_select(1, at::tensor(result.indices, at::kLong));
  SampleRequest request;
  request.seed = 3;
  request.count = count;
  request.given_BTHWC = result.given;
  request.given_frames = result.indices;
  request.frames = frames;
  result.made = model.sample(request);
  EXPECT_TRUE(
      at::equal(result.made.index_select(1, at::tensor(result.indices, at::kLong)), result.given));
  return result;
}

// Squares of the right size that move by one place a frame, always in the same direction.
double part_of_moving_squares(const at::Tensor& made) {
  at::Tensor good =
      (made > 0).sum({2, 3, 4}).ge(7).logical_and((made > 0).sum({2, 3, 4}).le(11)).all(1);
  const at::Tensor first = motion(made.select(1, 0), made.select(1, 1));
  good = good.logical_and(first.abs() == 1);
  for (int64_t frame = 1; frame + 1 < made.size(1); ++frame) {
    good = good.logical_and(motion(made.select(1, frame), made.select(1, frame + 1)) == first);
  }
  return part_of(good);
}

TEST(OneModelForAllTasks, EachIsBetterThanACopy) {
  auto model = square_model(6, {"model.diffusion.frames=RANDOM", "model.diffusion.most_given=3",
                                "model.unet.temporal=VOLUME", "model.diffusion.unconditional=0.3"});
  train(*model, squares(6), 700, 24);
  const std::pair<const char*, std::vector<int64_t>> tasks[] = {
      {"predict", {0, 1}}, {"infill", {0, 5}}, {"upsample", {0, 2, 4}}};
  for (const auto& [name, indices] : tasks) {
    const Made made = made_from(*model, indices, 6);
    RecordProperty(name, std::to_string(made.error() / made.copying()));
    // With only the ends known the square may have gone round either way.
    EXPECT_LT(made.error(), 0.7 * made.copying()) << name;
  }
  SampleRequest request;
  request.seed = 1;
  request.count = 32;
  EXPECT_GT(part_of_moving_squares(model->sample(request)), 0.5);
}

// Twelve frames, of which the network sees six at a time.
const std::vector<std::string> kFlexible = {
    "model.diffusion.frames=FLEXIBLE", "model.diffusion.window=6", "model.unet.temporal=RELATIVE",
    "model.unet.mark_observed=true", "model.unet.attention=8,4"};

DiffusionModel& flexible_model() {
  static const std::unique_ptr<DiffusionModel> model = [] {
    auto made = square_model(12, kFlexible);
    train(*made, squares(12), 2000, 24);
    return made;
  }();
  return *model;
}

std::unique_ptr<DiffusionModel> flexible_model_with(const std::string& set) {
  std::vector<std::string> sets = kFlexible;
  sets.push_back(set);
  auto model = square_model(12, sets);
  const std::vector<NamedTensor>& learnt = flexible_model().parameters().weights();
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < learnt.size(); ++i) {
    model->parameters().weights()[i].tensor.copy_(learnt[i].tensor);
  }
  return model;
}

// As long as the videos it has learnt from; and twice as long where frames are shown only near
// ones, as all schemes but NEXT go by distances that it has not met then.
TEST(LongVideos, EverySchemeContinuesBetterThanACopy) {
  const std::pair<const char*, int64_t> videos[] = {
      {"NEXT", 12}, {"LONG_RANGE", 12}, {"HIERARCHY", 12}, {"NEXT", 24}};
  for (const auto& [scheme, frames] : videos) {
    const auto model = flexible_model_with(str("model.diffusion.sampler.scheme=", scheme));
    const Made made = made_from(*model, row(4), frames);
    RecordProperty(str(scheme, "_", frames), std::to_string(made.error() / made.copying()));
    EXPECT_LT(made.error(), 0.6 * made.copying()) << scheme << " of " << frames << " frames";
  }
}

TEST(LongVideos, AnyFramesAreCompleted) {
  for (const std::vector<int64_t>& indices : {std::vector<int64_t>{0, 2, 5, 9}, {3, 4, 8}}) {
    const Made made = made_from(flexible_model(), indices, 12);
    EXPECT_LT(made.error(), 0.6 * made.copying());
  }
}

// ---- next frames
// ---------------------------------------------------------------------------------

std::unique_ptr<Rvd> rvd(int frames, const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {
      "model.rvd.width=16",           "model.rvd.mean_multipliers=1,2",
      "model.rvd.multipliers=1,2",    "model.rvd.given=2",
      "model.rvd.running_scale=true", "model.diffusion.schedule=COSINE_LOG_SNR",
      "model.diffusion.prediction=V", "model.diffusion.sampler.steps=20"};
  sets.insert(sets.end(), more.begin(), more.end());
  return std::make_unique<Rvd>(load_config("", sets), ClipShape{frames, 8, 8, 1}, at::kCPU,
                               SumOverRanks{});
}

void train_rvd(Rvd& model, const ClipsAt& clips_at, int64_t steps, int64_t batch) {
  Optimizer optimizer(model.phases()[0], OptimizerConfig());
  for (int64_t step = 0; step < steps; ++step) {
    model.loss(clips_at(batch, step * batch), 0, true).total.backward();
    const double left = static_cast<double>(steps - step) / static_cast<double>(steps);
    optimizer.set_learning_rate(2e-3 * std::min(1.0, 4 * left));
    optimizer.step(optimizer.gradient_norm());
    for (const NamedTensor& weight : model.parameters().weights())
      weight.tensor.mutable_grad().reset();
    model.after_update(batch, at::ones({}));
  }
}

TEST(MeanAndResidual, MeanBeatsACopyAndTheResidualIsSmallerThanTheFrame) {
  auto model = rvd(5);
  train_rvd(*model, squares(5), 500, 16);
  const at::NoGradGuard no_grad;
  const at::Tensor x = square_clips(32, kUnseen, 5).x_BTHWC;
  Rvd::State state;
  const at::Tensor mean = model->forecast(x.slice(1, 0, 4), state)
                              .mean.unflatten(0, {4, 32})
                              .slice(0, 1)
                              .permute({1, 0, 3, 4, 2});
  const at::Tensor future = x.slice(1, 2);
  EXPECT_LT(mean_square(mean, future), 0.3 * mean_square(x.slice(1, 1, 4), future));
  EXPECT_LT((future - mean).var().item<double>(), 0.5 * future.var().item<double>());
  const Made made = made_from(*model, row(2), 10);
  RecordProperty("error_over_copying", std::to_string(made.error() / made.copying()));
  EXPECT_LT(made.error(), 0.5 * made.copying());
}

// A square that stands still for two frames and then goes one place to the left or to the right.
Clips forking_clips(int64_t count, int64_t first) {
  Clips clips = square_clips(count, first, 3);
  clips.x_BTHWC = at::cat({clips.x_BTHWC.slice(1, 0, 1), clips.x_BTHWC.slice(1, 0, 2)}, 1);
  return clips;
}

TEST(Forecasts, BothOutcomesAppearAndTheScoreIsBelowTheMeans) {
  auto model = rvd(3);
  train_rvd(*model, forking_clips, 900, 24);
  const at::Tensor truth = forking_clips(16, kUnseen).x_BTHWC;
  const at::Tensor given = truth.slice(1, 0, 2), next = truth.select(1, 2);
  std::vector<at::Tensor> members;
  double left = 0, right = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SampleRequest request;
    request.seed = seed;
    request.count = 16;
    request.given_BTHWC = given;
    members.push_back(model->sample(request).select(1, 2));
    const at::Tensor step = motion(given.select(1, 1), members.back());
    left += part_of(step == -1) / 12;
    right += part_of(step == 1) / 12;
  }
  RecordProperty("left", std::to_string(left));
  RecordProperty("right", std::to_string(right));
  EXPECT_GT(left, 0.25);
  EXPECT_GT(right, 0.25);
  // mean |x_i - y| - mean |x_i - x_j| / 2 falls with more members, and below the error of one frame
  // that is the mean of them all.
  const auto crps = [&](size_t count) {
    const at::Tensor some = at::stack(
        std::vector<at::Tensor>(members.begin(), members.begin() + static_cast<ptrdiff_t>(count)));
    const at::Tensor apart = (some.unsqueeze(0) - some.unsqueeze(1)).abs().mean();
    return ((some - next).abs().mean() - apart / 2).item<double>();
  };
  EXPECT_LT(crps(4), crps(1));
  EXPECT_LT(crps(12), crps(2));
  const at::Tensor middle = at::stack(members).mean(0);
  EXPECT_LT(crps(12), (middle - next).abs().mean().item<double>());
}

}  // namespace
}  // namespace lf
