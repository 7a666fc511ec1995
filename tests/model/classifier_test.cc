#include "model/classifier.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include "config/config.h"
#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

constexpr int64_t kClasses = 4;

std::unique_ptr<Model> small_classifier(int frames, const std::vector<std::string>& more = {}) {
  std::vector<std::string> sets = {"model.classifier.width=8", "model.classifier.stages=2",
                                   str("model.classifier.classes=", kClasses)};
  sets.insert(sets.end(), more.begin(), more.end());
  return make_model(load_config("", sets), {frames, 8, 8, 3}, at::kCPU);
}

// Vertical stripes, horizontal stripes, a chequerboard or nothing, with noise, as bytes in [-1, 1].
Clips labelled_clips(int64_t count, int64_t frames) {
  Clips clips{{}, at::arange(count, at::kLong) % kClasses, 3, 100};
  clips.x_BTHWC = at::full({count, frames, 8, 8, 3}, 0.0F);
  const at::Tensor noise = keyed_normal(clips, Purpose::kGenerated, 0, {frames, 8, 8, 3});
  const at::Tensor sign = at::arange(8, at::kFloat) % 2 * 2 - 1;
  const at::Tensor down = sign.view({1, 8}).expand({8, 8}), across = down.t();
  const at::Tensor patterns = at::stack({down, across, down * across, down * 0});
  const at::Tensor x = 0.5 * patterns.index_select(0, clips.labels_B).view({-1, 1, 8, 8, 1});
  clips.x_BTHWC = ((((x + 0.1 * noise).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1).contiguous();
  return clips;
}

at::Tensor as_bytes(const at::Tensor& x) { return ((x + 1) * 127.5).round().to(at::kByte); }

std::unique_ptr<Extractor> extractor_of(const Model& model) {
  TensorsByName tensors;
  for (const NamedTensor& weight : model.parameters().weights()) {
    tensors.emplace(weight.name, weight.tensor.detach());
  }
  Weights weights = weights_of(std::move(tensors));
  EXPECT_TRUE(is_classifier(weights));
  return make_own_extractor(weights, {});
}

void train(Model& model, const Clips& clips, int steps) {
  for (int step = 0; step < steps; ++step) {
    model.loss(clips, 0, true).total.backward();
    const at::NoGradGuard no_grad;
    for (const NamedTensor& weight : model.parameters().weights()) {
      at::Tensor& gradient = weight.tensor.mutable_grad();
      weight.tensor.detach().sub_(gradient, 0.1);
      gradient.zero_();
    }
  }
}

TEST(Classifier, LossOfABatchIsTheMeanOfItsSlicesWithDropoutAndShift) {
  const auto model =
      small_classifier(3, {"model.classifier.dropout=0.3", "model.classifier.shift=2",
                           "model.classifier.label_smoothing=0.1"});
  const Clips all = labelled_clips(8, 3);
  const auto loss = [&](int64_t from, int64_t to) {
    return model->loss(all.slice(from, to), 0, true).total.item<double>();
  };
  EXPECT_NEAR(loss(0, 8), (loss(0, 4) + loss(4, 8)) / 2, 1e-5);
  EXPECT_NE(loss(0, 8), model->loss(all, 0, false).total.item<double>());
}

TEST(Classifier, LearnsLabelsOfImagesAndOfClips) {
  for (const int frames : {1, 3}) {
    const auto model = small_classifier(frames);
    const Clips clips = labelled_clips(16, frames);
    const auto accuracy = [&] {
      return model->loss(clips, 0, false).terms.at(1).tensor.item<double>();
    };
    train(*model, clips, 40);
    EXPECT_GE(accuracy(), 0.9) << frames;
    // Correctly classified clips keep their brightness in a preview.
    const at::NoGradGuard no_grad;
    const at::Tensor shown = model->preview(clips);
    EXPECT_EQ(shown.sizes(), clips.x_BTHWC.sizes());
    const double kept =
        (shown == clips.x_BTHWC).flatten(1).all(1).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(kept, accuracy(), 1e-6);
  }
}

TEST(Classifier, ItsExtractorIsTheNetworkThatWasTrained) {
  for (const int frames : {1, 3}) {
    const auto model = small_classifier(frames);
    const Clips clips = labelled_clips(12, frames);
    train(*model, clips, 3);
    const auto network = extractor_of(*model);
    EXPECT_EQ(network->name(), "own");
    EXPECT_EQ(network->frames(), frames == 1 ? 1 : 2);
    const auto made = network->features(as_bytes(clips.x_BTHWC), {"features", "logits"});
    EXPECT_EQ(made[0].size(1), network->layers()[0].dim);
    const at::Tensor entropy = at::cross_entropy_loss(made[1], clips.labels_B);
    EXPECT_NEAR(entropy.item<double>(), model->loss(clips, 0, false).total.item<double>(), 1e-4);
    EXPECT_FALSE(made[0].requires_grad());
  }
}

TEST(Classifier, FramesOutOfOrderAreAnotherClip) {
  const auto model = small_classifier(3);
  const Clips clips = labelled_clips(16, 3);
  train(*model, clips, 5);  // the temporal weights start at zero
  const auto network = extractor_of(*model);
  const at::Tensor bytes = as_bytes(clips.x_BTHWC);
  const at::Tensor reversed = network->features(bytes.flip(1), {"features"})[0];
  EXPECT_GT(row_error(reversed, network->features(bytes, {"features"})[0]), 1e-4);
}

TEST(Classifier, LabelsClipsAndWeightsThatDoNotFitAreNamed) {
  const auto model = small_classifier(1);
  Clips clips = labelled_clips(4, 1);
  const auto complaint = [&](int64_t label) {
    clips.labels_B = at::full({4}, label, at::kLong);
    return error_of(Code::kUsage, [&] { model->loss(clips, 0, true); });
  };
  EXPECT_TRUE(contains(complaint(-1), "has no label"));
  EXPECT_TRUE(contains(complaint(kClasses), "has the label 4, model.classifier.classes is 4"));
  EXPECT_TRUE(contains(
      error_of(Code::kUsage, [] { small_classifier(1, {"model.classifier.stages=6"}); }), "32"));
  EXPECT_TRUE(contains(
      error_of(Code::kUsage, [] { small_classifier(1, {"model.classifier.shift=8"}); }), "shift"));
  const auto clip_form = extractor_of(*small_classifier(3));
  EXPECT_TRUE(
      contains(error_of(Code::kUsage,
                        [&] {
                          clip_form->features(at::zeros({1, 1, 8, 8, 3}, at::kByte), {"features"});
                        }),
               "at least 2"));
  Weights broken = weights_of({{"classifier.stem.weight", at::zeros({8, 3, 3, 3})}});
  EXPECT_TRUE(contains(error_of(Code::kCheckpoint, [&] { make_own_extractor(broken, {}); }),
                       "not a whole classifier"));
}

}  // namespace
}  // namespace lf
