#include "model/model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "config/config.h"

namespace lf {
namespace {

Clips some_clips(int64_t count, int64_t frames, int64_t first_position) {
  Clips clips{{}, at::full({count}, -1, at::kLong), 3, first_position};
  clips.x_BTHWC = at::full({count, frames, 8, 8, 3}, 0.0F);
  clips.x_BTHWC = keyed_normal(clips, Purpose::kGenerated, 0, {frames, 8, 8, 3});
  return clips;
}

std::unique_ptr<Model> small_model(const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {"model.autoencoder.width=8", "model.autoencoder.latent=4"};
  sets.insert(sets.end(), more.begin(), more.end());
  return make_model(load_config("", sets), {4, 8, 8, 3}, at::kCPU);
}

TEST(Model, InitialWeightsDependOnSeedAndNameOnly) {
  const auto one = small_model(), same = small_model(), other = small_model({"train.seed=1"});
  const auto& a = one->parameters().weights();
  const auto& b = same->parameters().weights();
  const auto& c = other->parameters().weights();
  bool differs = false;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].tensor, b[i].tensor)) << a[i].name;
    differs = differs || !at::equal(a[i].tensor, c[i].tensor);
  }
  EXPECT_TRUE(differs);
}

TEST(Model, KeyedDrawsDependOnThePositionNotOnTheSlice) {
  const Clips all = some_clips(6, 2, 100);
  const at::Tensor whole = keyed_uniform(all, Purpose::kDropout, 5, {3});
  const at::Tensor halves = at::cat({keyed_uniform(all.slice(0, 2), Purpose::kDropout, 5, {3}),
                                     keyed_uniform(all.slice(2, 6), Purpose::kDropout, 5, {3})});
  EXPECT_TRUE(at::equal(whole, halves));
  EXPECT_FALSE(at::equal(whole, keyed_uniform(all, Purpose::kDropout, 6, {3})));
}

TEST(Model, LossOfABatchIsTheMeanOfItsSlicesWithDropoutAndDiscriminator) {
  const auto model =
      small_model({"model.autoencoder.dropout=0.3", "model.autoencoder.gan_weight=0.1"});
  const Clips all = some_clips(4, 4, 40);
  for (size_t phase = 0; phase < model->phases().size(); ++phase) {
    const at::Tensor whole = model->loss(all, phase, true).total;
    const at::Tensor parts = (model->loss(all.slice(0, 2), phase, true).total +
                              model->loss(all.slice(2, 4), phase, true).total) /
                             2;
    EXPECT_TRUE(at::allclose(whole, parts, 1e-5, 1e-6));
  }
}

TEST(Model, FramesAsImagesIsAChannelsLastView) {
  const Clips clips = some_clips(2, 3, 0);
  const at::Tensor images = frames_as_images(clips.x_BTHWC);
  EXPECT_EQ(images.sizes(), (std::vector<int64_t>{6, 3, 8, 8}));
  EXPECT_TRUE(images.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_EQ(images.data_ptr(), clips.x_BTHWC.data_ptr());
  EXPECT_TRUE(at::equal(images_as_frames(images, 3), clips.x_BTHWC));
}

TEST(Model, NoModelAndShapesThatDoNotFitAreUsageErrors) {
  try {
    make_model(load_config("", {}), {4, 8, 8, 3}, at::kCPU);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage);
    EXPECT_NE(std::string(error.what()).find("model.autoencoder"), std::string::npos);
  }
  EXPECT_THROW(make_model(load_config("", {"model.autoencoder.multipliers=1,2,4"}), {4, 10, 10, 3},
                          at::kCPU),
               Error);
}

}  // namespace
}  // namespace lf
