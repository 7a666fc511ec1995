// What a model takes from the weights of another (train.init), and which of its weights are trained
// then (train.freeze, train.lora). Whole runs are tune_test.py's.
#include "train/initial_weights.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "tests/checkpoint/checkpoint_fixture.h"
#include "tests/model/denoisers/denoiser_fixture.h"
#include "train/optimizer.h"
#include "train/tuning.h"

namespace lf {
namespace {

// A file of a model's tensors, as another program might write it: without a config.
std::string file_of(const Model& model, at::ScalarType type = at::kFloat) {
  std::vector<NamedTensor> all = model.parameters().weights();
  const auto& buffers = model.parameters().buffers();
  all.insert(all.end(), buffers.begin(), buffers.end());
  std::map<std::string, at::Tensor> values;
  std::vector<TensorLayout> layouts;
  for (const NamedTensor& named : all) {
    values[named.name] = named.tensor.detach().to(type).contiguous();
    layouts.push_back(layout_of({named.name, values[named.name]}));
  }
  const std::string path = fresh_folder("init") + "/weights.safetensors";
  publish_tensor_file(real_file_system(), path, layouts, {},
                      [&](const TensorLayout& layout) { return values.at(layout.name); });
  return path;
}

using Sets = std::vector<std::string>;

Config config_of(const Sets& network, const Sets& more = {}) {
  Config config = load_config("", {"model.diffusion.steps=100"});
  set_options(config, network);
  set_options(config, more);
  return config;
}

std::unique_ptr<DiffusionModel> model_of(const Config& config, int frames) {
  return std::make_unique<DiffusionModel>(config, ClipShape{frames, 8, 8, 3}, at::kCPU);
}

at::Tensor estimate_of(const DiffusionModel& model, const at::Tensor& z_BTHWC,
                       const at::Tensor& labels_B = {}) {
  const at::NoGradGuard no_grad;
  const auto frames = static_cast<size_t>(z_BTHWC.size(1));
  FrameWindow window;
  for (size_t t = 0; t < frames; ++t) window.index.push_back(static_cast<int64_t>(t));
  window.role.assign(frames, FrameRole::kLatent);
  const std::vector<NoiseLevel> levels(frames, {0.5, std::sqrt(0.5), std::sqrt(0.5)});
  return model.estimate(z_BTHWC, window, levels, {labels_B, {}, {}}).image;
}

const Sets kUnet = {"model.unet={ width: 16 multipliers: [1, 2] blocks: 1 attention: 8 heads: 2 }"};
const Sets kDit = {"model.dit={ width: 16 layers: 2 heads: 2 }"};
const Sets kUnet3d = {"model.unet3d={ dim: 16 multipliers: [1, 2] heads: 2 head_width: 8 }"};

class ImageToVideo : public testing::TestWithParam<std::pair<const char*, Sets>> {};

TEST_P(ImageToVideo, EachFrameIsAtFirstWhatTheImageModelMakesOfIt) {
  const auto image = model_of(config_of(GetParam().second), 1);
  wake_up(image->parameters());
  const Config config = config_of(GetParam().second, {"train.init=" + file_of(*image),
                                                      "train.init_strict=false", "train.seed=5"});
  const auto video = model_of(config, 3);
  const InitialWeights taken = take_initial_weights(config, *video);
  EXPECT_EQ(taken.record.taken(), static_cast<int64_t>(image->parameters().weights().size() +
                                                       image->parameters().buffers().size()));
  EXPECT_GT(taken.record.made_new(), 0);
  EXPECT_EQ(taken.record.left_out() + taken.record.adapted(), 0);

  const at::Tensor z = some_numbers({2, 3, 8, 8, 3}, 4);
  const at::Tensor frames = estimate_of(*image, z.flatten(0, 1).unsqueeze(1)).view(z.sizes());
  const auto apart = [&] { return (estimate_of(*video, z) - frames).abs().max().item<double>(); };
  EXPECT_LT(apart(), 2e-6);
  wake_up(video->parameters());  // and the layers over frames are there
  EXPECT_GT(apart(), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Networks, ImageToVideo,
                         testing::Values(std::pair("unet", kUnet),
                                         std::pair("relative",
                                                   Sets{kUnet[0], "model.unet.temporal=RELATIVE"}),
                                         std::pair("dit", kDit), std::pair("unet3d", kUnet3d)),
                         [](const auto& test) { return std::string(test.param.first); });

TEST(InitialWeights, FiltersOverSpaceAndTimeBeginAsThoseOfTheMiddleFrame) {
  const Sets volume = {kUnet[0], "model.unet.temporal=VOLUME"};
  const auto image = model_of(config_of(volume), 1);
  const Config config = config_of(
      volume, {"train.init=" + file_of(*image), "train.init_strict=false", "train.seed=5"});
  const auto video = model_of(config, 3);
  const InitialWeights taken = take_initial_weights(config, *video);
  EXPECT_GT(taken.record.adapted(), 0);
  EXPECT_EQ(taken.record.made_new() + taken.record.left_out(), 0);
  const TensorsByName before = by_name(image->parameters().weights());
  for (const NamedTensor& weight : video->parameters().weights()) {
    const at::Tensor& one = before.at(weight.name);
    if (weight.tensor.sizes() == one.sizes()) {
      EXPECT_TRUE(at::equal(weight.tensor, one)) << weight.name;
      continue;
    }
    const std::vector<at::Tensor> thirds = weight.tensor.chunk(3, 1);
    EXPECT_TRUE(at::equal(thirds[1], one)) << weight.name;
    EXPECT_EQ((thirds[0].count_nonzero() + thirds[2].count_nonzero()).item<int64_t>(), 0);
  }
}

TEST(InitialWeights, ClassesBeyondThoseThereAreNewAndNoClassStaysTheLast) {
  const auto two = model_of(config_of(kDit, {"model.diffusion.classes=2"}), 1);
  wake_up(two->parameters());
  const Config config =
      config_of(kDit, {"model.diffusion.classes=4", "train.seed=5",
                       "train.init=" + file_of(*two, at::kBFloat16), "train.init_strict=false"});
  const auto four = model_of(config, 1);
  const at::Tensor fresh = by_name(four->parameters().weights()).at("classes.weight").clone();
  EXPECT_EQ(take_initial_weights(config, *four).record.adapted(), 1);
  const at::Tensor before = by_name(two->parameters().weights()).at("classes.weight"),
                   after = by_name(four->parameters().weights()).at("classes.weight");
  const auto rounded = [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };
  EXPECT_TRUE(at::equal(after.slice(0, 0, 2), rounded(before.slice(0, 0, 2))));
  EXPECT_TRUE(at::equal(after.slice(0, 2, 4), fresh.slice(0, 2, 4)));
  EXPECT_TRUE(at::equal(after[4], rounded(before[2])));
}

TEST(InitialWeights, WhatDoesNotFitIsNamed) {
  const std::string file = file_of(*model_of(config_of(kUnet3d), 1));
  const auto refusal = [](const Sets& network, int frames, const std::string& from, bool strict) {
    const Config config = config_of(
        network, {"train.init=" + from, str("train.init_strict=", strict ? "true" : "false")});
    return error_of(Code::kUsage, [&] { take_initial_weights(config, *model_of(config, frames)); });
  };
  const std::string strict = refusal(kUnet3d, 3, file, true);
  EXPECT_TRUE(contains(strict, "it lacks 'distances.weight'")) << strict;
  EXPECT_TRUE(contains(strict, "train.init_strict=false")) << strict;
  // Of another width: no rule makes one of the other.
  const Sets wider = {"model.unet3d={ dim: 32 multipliers: [1, 2] heads: 2 head_width: 8 }"};
  const std::string misfit = refusal(wider, 1, file, false);
  EXPECT_TRUE(contains(misfit, "is F32 [16, 16, 3, 3] there, F32 [32, 32, 3, 3] here")) << misfit;
  const std::string absent = refusal(kUnet3d, 1, fresh_folder("empty") + "/none", true);
  EXPECT_TRUE(contains(absent, "which is not there")) << absent;

  const Config other = load_config("", {"model.autoencoder={ width: 8 latent: 4 }",
                                        "train.init=" + file, "train.init_strict=false"});
  const auto autoencoder = make_model(other, {1, 8, 8, 3}, at::kCPU);
  const std::string foreign =
      error_of(Code::kUsage, [&] { take_initial_weights(other, *autoencoder); });
  EXPECT_TRUE(contains(foreign, "is one of the model's")) << foreign;
}

TEST(Adapters, OfRankEightTakeLittleOfTheOptimizersMemory) {
  const Config config =
      config_of({"model.dit={ width: 384 layers: 2 heads: 6 }", "train.lora.rank=8"});
  const auto model = model_of(config, 2);
  const ParameterTable& table = model->parameters();
  int64_t trained = 0, frozen = 0;
  for (const NamedTensor& weight : table.trained()) trained += weight.tensor.numel();
  for (const NamedTensor& weight : table.frozen()) frozen += weight.tensor.numel();
  const Phase part = trained_part(model->phases()[0]);
  int64_t moments = 0;
  for (const NamedTensor& state : Optimizer(part, config.train().optimizer()).state()) {
    moments += state.tensor.numel();
  }
  EXPECT_EQ(moments, 2 * trained + 1);  // and the number of steps
  EXPECT_LE(moments, 2 * frozen / 10);
  EXPECT_GT(trained, 0);
  RecordProperty("share_percent", std::to_string(100.0 * trained / frozen));
}

// Two implementations: as the layers add them, and by the formula, entry by entry.
TEST(Adapters, AddTheProductOfTheirMatrices) {
  const at::Tensor weight = some_numbers({6, 4, 1, 1}, 1), a = some_numbers({2, 4}, 2),
                   b = some_numbers({6, 2}, 3);
  const at::Tensor sum = adapted(weight, {a, b, 0.5});
  ASSERT_EQ(sum.sizes(), weight.sizes());
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      const double product = b[i][0].item<double>() * a[0][j].item<double>() +
                             b[i][1].item<double>() * a[1][j].item<double>();
      EXPECT_NEAR(sum[i][j].item<double>(), weight[i][j].item<double>() + 0.5 * product, 1e-6);
    }
  }
}

// For every kind of layer that holds a linear map: B = 0 changes no bit, another B does.
TEST(Adapters, BeginAsTheModelWithoutThem) {
  const at::Tensor z = some_numbers({2, 2, 8, 8, 3}, 4);
  for (const Sets& network : {kUnet, kDit, kUnet3d}) {
    const auto plain = model_of(config_of(network), 2);
    wake_up(plain->parameters());
    const Config config =
        config_of(network, {"train.init=" + file_of(*plain), "train.lora.rank=2"});
    const auto tuned = model_of(config, 2);
    take_initial_weights(config, *tuned);
    EXPECT_TRUE(at::equal(estimate_of(*plain, z), estimate_of(*tuned, z))) << network[0];
    for (const NamedTensor& weight : tuned->parameters().weights()) {
      EXPECT_EQ(weight.tensor.requires_grad(), contains(weight.name, "lora_")) << weight.name;
      if (!weight.name.ends_with(kAdapterB)) continue;
      const at::NoGradGuard no_grad;
      weight.tensor.fill_(0.1);
      EXPECT_FALSE(at::equal(estimate_of(*plain, z), estimate_of(*tuned, z))) << weight.name;
      weight.tensor.zero_();
    }
  }
}

TEST(Tuning, PatternsThatMatchNothingAndNothingToTrainAreRefused) {
  const auto refusal = [](const Config& config) {
    const auto model = make_model(config, {2, 8, 8, 3}, at::kCPU);
    return error_of(Code::kUsage, [&] { check_tuning(config.train(), *model); });
  };
  const auto expect = [&](const Sets& sets, const std::string& part) {
    const std::string text = refusal(config_of(kDit, sets));
    EXPECT_TRUE(contains(text, part)) << text;
  };
  expect({"train.freeze=layers.*,*temporl*"}, "did you mean 'temporal', as in 'layers.0.temporal.");
  expect({"train.lora={ rank: 2 full: \"clases*\" }"}, "train.lora.full has 'clases*'");
  expect({"train.freeze=*"}, "freezes all");
  expect({"train.freeze=layers.*", "train.optimizer.factor=layers.0.*=2"},
         "which matches no trained weight");
  for (const char* factor : {"layers.0.*", "=2", "layers.*=0", "layers.*=x"}) {
    expect({str("train.optimizer.factor=", factor)}, "expected PATTERN=FACTOR");
  }
  const std::string maps =
      refusal(load_config("", {"model.autoencoder={ width: 8 latent: 4 }", "train.lora.rank=4"}));
  EXPECT_TRUE(contains(maps, "no trained linear map")) << maps;
}

}  // namespace
}  // namespace lf
