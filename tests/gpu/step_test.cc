// Training steps on a device, bit for bit: random numbers keyed by clips against the CPU's,
// recorded and replayed steps against steps launched operation by operation, across micro-batches,
// dropout, a skipped step and a resume. Without a GPU every test here is skipped.
#include "train/step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <limits>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "base/error.h"
#include "comm/device_backend.h"
#include "kernels/gpu/device.h"
#include "launch/plugin.h"
#include "run/accelerator.h"
#include "run/synthetic_clips.h"

namespace lf {
namespace {

class GpuStep : public testing::Test {
 protected:
  void SetUp() override {
    if (survey_gpus().gpus.empty()) GTEST_SKIP() << "no GPU here";
    ASSERT_NE(open_plugin().device, nullptr) << open_plugin().problem;
    choose_device(World::join(), config_of({}).train(), accelerator_of_machine());
  }

  static Config config_of(std::vector<std::string> sets) {
    for (const char* set :
         {"source.generated.kind=shapes", "source.generated.count=64", "source.size=16",
          "recipe.frames=4", "train.batch=4", "train.device=CUDA", "train.deterministic=true",
          "train.ema.tracked_widths=0.1"}) {
      sets.insert(sets.begin(), set);
    }
    return load_config("", sets);
  }
};

TEST_F(GpuStep, KeyedNumbersHaveTheBitsOfTheCpu) {
  if (device_kernels() == nullptr) GTEST_SKIP() << "the plugin was built without nvcc";
  for (const int64_t row : {1, 15, 64, 65, 1000, 3 * 32 * 32, 70001}) {
    for (const int64_t first : {int64_t{0}, int64_t{5}, (int64_t{1} << 32) - 1}) {
      Clips keys;
      keys.x_BTHWC = at::empty({3, 0});
      keys.seed = 0x123456789abcdefULL;
      keys.first_position = first;
      Clips there = keys;
      there.x_BTHWC = keys.x_BTHWC.to(at::kCUDA);
      EXPECT_TRUE(at::equal(keyed_normal(there, Purpose::kDiffusionNoise, 7, {row}).cpu(),
                            keyed_normal(keys, Purpose::kDiffusionNoise, 7, {row})))
          << row << " normals from " << first;
      EXPECT_TRUE(at::equal(keyed_uniform(there, Purpose::kDropout, 1, {row}).cpu(),
                            keyed_uniform(keys, Purpose::kDropout, 1, {row})))
          << row << " uniforms from " << first;
    }
  }
  // Four million draws, which reach the tails.
  Clips keys;
  keys.x_BTHWC = at::empty({1, 0});
  Clips there = keys;
  there.x_BTHWC = keys.x_BTHWC.to(at::kCUDA);
  EXPECT_TRUE(at::equal(keyed_normal(there, Purpose::kSampling, 0, {1 << 22}).cpu(),
                        keyed_normal(keys, Purpose::kSampling, 0, {1 << 22})));
}

TEST_F(GpuStep, KeyedNumbersFollowAPositionOnTheDevice) {
  if (device_kernels() == nullptr) GTEST_SKIP() << "the plugin was built without nvcc";
  const at::Tensor position =
      at::full({1}, 40, at::TensorOptions().device(at::kCUDA).dtype(at::kLong));
  const auto key = stream_key({9, Purpose::kDropout, 0, 2}, 0);
  at::Tensor made = at::empty({2, 100}, at::TensorOptions().device(at::kCUDA));
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  device_kernels()->keyed_uniform(
      {key[0], key[1], 2, 3, 2, 100, position.const_data_ptr<int64_t>()},
      made.mutable_data_ptr<float>(), guard.getStreamNativeHandle(guard.getStream(made.device())));
  Clips keys;
  keys.x_BTHWC = at::empty({2, 0});
  keys.seed = 9;
  keys.first_position = 43;
  EXPECT_TRUE(at::equal(made.cpu(), keyed_uniform(keys, Purpose::kDropout, 2, {100})));
}

// Steps of a run on the same clips.
class Training {
 public:
  Training(Config config, const char* graph) : config_(std::move(config)) {
    set_option(config_, std::string("train.graph=") + graph);
    World& world = World::join();
    const at::Device device(at::kCUDA, 0);
    const ClipShape shape{4, 16, 16, 3};
    step_ = std::make_unique<Step>(world, config_, shape, device, accelerator_of_machine());
    clips_ = synthetic_clips(config_, shape, config_.train().batch(),
                             step_->model().images_per_clip(), world, device);
  }

  // Runs the steps before `end`; step `spoilt` gets clips that are not finite.
  void make(int64_t end, int64_t spoilt = -1) {
    const int64_t batch = config_.train().batch();
    for (; next_ < end; ++next_) {
      Clips clips = clips_;
      clips.first_position = next_ * batch;
      // Different pixels in each step.
      clips.x_BTHWC = (clips_.x_BTHWC + 0.01 * static_cast<double>(next_)).clamp(-1, 1);
      if (next_ == spoilt) {
        clips.x_BTHWC = clips.x_BTHWC * std::numeric_limits<double>::quiet_NaN();
      }
      step_->run(clips, next_ * batch, tally_);
    }
    step_->settle(tally_);
  }

  void resume_from(const Training& other) {
    std::vector<TensorGroup> mine = step_->state();
    const std::vector<TensorGroup> theirs = other.step_->state();
    for (size_t g = 0; g < mine.size(); ++g) {
      for (size_t i = 0; i < mine[g].tensors.size(); ++i) {
        mine[g].tensors[i].tensor.copy_(theirs[g].tensors[i].tensor);
      }
    }
    next_ = other.next_;
  }

  std::vector<TensorGroup> state() const { return step_->state(); }
  const StepTally& tally() const { return tally_; }
  Step& step() { return *step_; }

 private:
  Config config_;
  std::unique_ptr<Step> step_;
  Clips clips_;
  StepTally tally_;
  int64_t next_ = 0;
};

void expect_equal_bits(const Training& a, const Training& b, const std::string& what) {
  const std::vector<TensorGroup> left = a.state(), right = b.state();
  ASSERT_EQ(left.size(), right.size());
  for (size_t g = 0; g < left.size(); ++g) {
    ASSERT_EQ(left[g].tensors.size(), right[g].tensors.size());
    for (size_t i = 0; i < left[g].tensors.size(); ++i) {
      const at::Tensor x = left[g].tensors[i].tensor, y = right[g].tensors[i].tensor;
      ASSERT_TRUE(at::equal(x.cpu(), y.cpu()))
          << what << ": " << left[g].kind << " " << left[g].tensors[i].name << " differs by "
          << (x - y).abs().max().item<double>();
    }
  }
}

struct Case {
  const char* name;
  std::vector<std::string> sets;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"unet3d", {"model.unet3d={ dim: 16 multipliers: [1, 2] heads: 2 head_width: 16 }"}},
      {"unet3d in bf16, in micro-batches",
       {"model.unet3d={ dim: 16 multipliers: [1, 2] heads: 2 head_width: 16 }",
        "train.precision=BF16", "train.accumulation=2", "train.optimizer.warmup_images=100"}},
      {"unet with dropout, classes and learned variance",
       {"model.unet={ width: 16 multipliers: [1, 2] attention: [8] heads: 2 dropout: 0.1 }",
        "model.diffusion={ classes: 3 condition_dropout: 0.3 learned_variance: true }"}},
      {"unet, recomputed, frame by frame",
       {"model.unet={ width: 16 multipliers: [1, 2] attention: [8] heads: 2 dropout: 0.1 }",
        "model.diffusion={ frames: AUTOREGRESSIVE history: 2 }", "train.recompute=true"}},
      {"dit with independent images",
       {"model.dit={ width: 32 layers: 2 heads: 2 patch: 4 }", "model.diffusion.images=2"}},
      {"autoencoder with two phases", {"model.autoencoder={ width: 8 gan_weight: 0.1 }"}},
      {"vqvae with an EMA codebook, in micro-batches",
       {"model.vqvae={ width: 8 multipliers: [1, 2] quantiser { ema { codes: 16 dim: 4 } } }",
        "train.accumulation=2"}},
      {"cvivit with binary codes",
       {"model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 "
        "head_width: 8 quantiser { lfq { bits: 6 } } }"}},
  };
  return all;
}

TEST_F(GpuStep, RecordedStepsGiveTheSameBits) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    Training launched(config_of(one.sets), "OFF"), again(config_of(one.sets), "OFF"),
        recorded(config_of(one.sets), "ON");
    launched.make(10);
    again.make(10);
    recorded.make(10);
    EXPECT_FALSE(launched.step().recorded());
    EXPECT_TRUE(recorded.step().recorded());
    expect_equal_bits(launched, again, "the same steps again");
    expect_equal_bits(launched, recorded, "recorded");
    EXPECT_EQ(launched.tally().loss.steps, 10);
    EXPECT_EQ(launched.tally().loss.total, recorded.tally().loss.total);
    EXPECT_EQ(launched.tally().loss.terms, recorded.tally().loss.terms);
    EXPECT_EQ(launched.tally().gradient_norm, recorded.tally().gradient_norm);
  }
}

TEST_F(GpuStep, ARunThatIsResumedEndsInTheSameBits) {
  const Config config = config_of(cases()[0].sets);
  Training whole(config, "ON"), begun(config, "ON"), resumed(config, "ON");
  whole.make(12);
  begun.make(6);
  resumed.resume_from(begun);
  resumed.make(12);
  EXPECT_TRUE(resumed.step().recorded());
  expect_equal_bits(whole, resumed, "resumed");
}

TEST_F(GpuStep, AStepThatIsNotFiniteChangesNothingRecordedOrNot) {
  for (const char* graph : {"OFF", "ON"}) {
    Training run(config_of(cases()[0].sets), graph), before(config_of(cases()[0].sets), graph);
    before.make(8);
    run.make(9, /*spoilt=*/8);
    expect_equal_bits(before, run, graph);
    EXPECT_EQ(run.tally().skipped, 1);
    EXPECT_EQ(run.tally().loss.steps, 8);
  }
}

TEST_F(GpuStep, AStepThatCannotBeRecordedSaysWhyAndRuns) {
  const std::vector<std::string> sets = {"model.classifier={ classes: 3 width: 8 }"};
  Training run(config_of(sets), "AUTO");
  run.make(5);
  EXPECT_FALSE(run.step().recorded());
  EXPECT_NE(run.step().unrecorded().find("crops every clip"), std::string::npos);
  EXPECT_EQ(run.tally().loss.steps, 5);
  try {
    Training refused(config_of(sets), "ON");
    FAIL() << "a step was recorded that differs each time";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
    EXPECT_NE(std::string(error.what()).find("crops every clip"), std::string::npos)
        << error.what();
  }
}

TEST_F(GpuStep, SamplesOfARecordedNetworkHaveTheSameBits) {
  for (const Case& one : {cases()[0], cases()[2]}) {
    SCOPED_TRACE(one.name);
    std::vector<at::Tensor> made;
    for (const char* graph : {"OFF", "ON"}) {
      std::vector<std::string> sets = one.sets;
      for (const char* more : {"model.diffusion.sampler.steps=12", "train.graph="}) {
        sets.push_back(std::string(more) + (std::string(more).back() == '=' ? graph : ""));
      }
      const Config config = config_of(sets);
      const at::Device device(at::kCUDA, 0);
      const ClipShape shape{4, 16, 16, 3};
      const auto model = make_model(config, shape, device);
      const at::NoGradGuard no_grad;
      for (int turn = 0; turn < 2; ++turn) {
        made.push_back(model->preview(synthetic_clips(config, shape, 2, 0, World::join(), device)));
      }
    }
    EXPECT_TRUE(at::equal(made[0].cpu(), made[1].cpu())) << "the same again";
    EXPECT_TRUE(at::equal(made[0].cpu(), made[2].cpu())) << "recorded";
    EXPECT_TRUE(at::equal(made[0].cpu(), made[3].cpu())) << "recorded, again";
  }
}

TEST_F(GpuStep, NcclSumsAreRecordedToo) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  const auto backend =
      open_plugin().backend->make_nccl_backend(store, 0, 1, 0, std::chrono::minutes(1));
  at::Tensor value = at::full({1000}, 1, at::TensorOptions().device(at::kCUDA));
  const auto sum = [&] {
    std::vector<at::Tensor> tensors = {value};
    backend->allreduce(tensors)->wait();
    value.mul_(2);
  };
  const auto recorded = open_plugin().device->record(sum, 2);
  recorded->replay();
  EXPECT_TRUE(at::equal(value.cpu(), at::full({1000}, 8)));
  backend->shutdown();
}

}  // namespace
}  // namespace lf
