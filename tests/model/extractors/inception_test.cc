#include "model/extractors/inception.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "model/extractors/preprocessing.h"
#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

// Features of the same weights in fp32 differ by less, relatively.
constexpr double kTolerance = 1e-4;

TensorsByName all_weights() { return formula_tensors(layout_file("inception")); }

std::unique_ptr<Extractor> inception_of(TensorsByName tensors,
                                        Preprocessing id = Preprocessing::kTorch,
                                        Precision precision = FP32) {
  Weights weights = weights_of(std::move(tensors));
  return make_inception(weights, id, precision);
}

// The weights of a file that ends early.
TensorsByName up_to(const TensorsByName& all, const std::vector<std::string>& prefixes) {
  TensorsByName part;
  for (const auto& [name, tensor] : all) {
    for (const std::string& prefix : prefixes) {
      if (name.starts_with(prefix)) part.emplace(name, tensor);
    }
  }
  return part;
}

TEST(Inception, FeaturesEqualPytorchFidsForTheSameWeights) {
  const TensorsByName expected = fixture("inception.safetensors");
  const auto network = inception_of(all_weights());
  EXPECT_EQ(network->name(), "inception");
  std::vector<std::string> layers;
  for (const ExtractorLayer& layer : network->layers()) layers.push_back(layer.name);
  EXPECT_EQ(layers, (std::vector<std::string>{"64", "192", "spatial", "768", "2048", "logits",
                                              "logits_unbiased"}));
  const auto made = network->features(as_clips(expected.at("images")), layers);
  for (size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(made[i].size(1), network->layers()[i].dim);
    EXPECT_LT(row_error(made[i], expected.at(layers[i])), kTolerance) << layers[i];
  }
}

TEST(Inception, AThousandClassesAreTorchvisionsGraph) {
  const TensorsByName expected = fixture("inception.safetensors");
  TensorsByName weights = all_weights();
  weights["fc.weight"] = formula_tensor("fc.weight", -0.054127, 0.054127, {1000, 2048});
  weights["fc.bias"] = formula_tensor("fc.bias", -0.2, 0.2, {1000});
  weights["AuxLogits.fc.bias"] = weights["fc.bias"];
  const auto network = inception_of(std::move(weights));
  EXPECT_EQ(network->name(), "inception-torchvision");
  const auto made =
      network->features(as_clips(expected.at("images").slice(0, 0, 1)), {"2048", "logits"});
  EXPECT_LT(row_error(made[0], expected.at("torchvision.2048")), kTolerance);
  EXPECT_LT(row_error(made[1], expected.at("torchvision.logits")), kTolerance);
  EXPECT_GT(row_error(made[0], expected.at("2048").slice(0, 0, 1)), 1e-2);
}

TEST(Inception, Bf16IsCloseToFp32) {
  const TensorsByName expected = fixture("inception.safetensors");
  const auto network = inception_of(all_weights(), Preprocessing::kTorch, BF16);
  const auto made = network->features(as_clips(expected.at("images")), {"768", "2048"});
  EXPECT_EQ(made[0].scalar_type(), at::kFloat);
  EXPECT_LT(row_error(made[0], expected.at("768")), 0.05);
  EXPECT_LT(row_error(made[1], expected.at("2048")), 0.05);
}

TEST(Inception, AFileThatEndsEarlyGivesTheLayersItHas) {
  const TensorsByName all = all_weights(), expected = fixture("inception.safetensors");
  const auto network = inception_of(up_to(all, {"Conv2d_"}));
  ASSERT_EQ(network->layers().size(), 2u);
  const at::Tensor clips = as_clips(expected.at("images"));
  EXPECT_LT(row_error(network->features(clips, {"192"}).front(), expected.at("192")), kTolerance);
  const std::string message = error_of(Code::kUsage, [&] { network->features(clips, {"2048"}); });
  EXPECT_TRUE(contains(message, "no layer '2048'") && contains(message, "64, 192")) << message;
  EXPECT_EQ(inception_of(up_to(all, {"Conv2d_1", "Conv2d_2"}))->layers().size(), 1u);
  EXPECT_EQ(inception_of(up_to(all, {"Conv2d_", "Mixed_5", "Mixed_6"}))->layers().size(), 4u);
}

TEST(Inception, GreyIsTakenAsThreeEqualChannelsAndNoImagesGiveNoRows) {
  const TensorsByName expected = fixture("inception.safetensors");
  const auto network = inception_of(up_to(all_weights(), {"Conv2d_"}));
  const at::Tensor grey = as_clips(expected.at("images").slice(3, 1, 2));
  const at::Tensor three = grey.expand({-1, -1, -1, -1, 3});
  EXPECT_TRUE(network->features(grey, {"64"})[0].equal(network->features(three, {"64"})[0]));
  EXPECT_EQ(network->features(grey.slice(0, 0, 0), {"64"})[0].sizes(),
            (std::vector<int64_t>{0, 64}));
}

TEST(Inception, RowsDoNotDependOnTheirBatch) {
  const TensorsByName expected = fixture("inception.safetensors");
  const auto network = inception_of(up_to(all_weights(), {"Conv2d_"}));
  const at::Tensor one = as_clips(expected.at("images").slice(0, 1, 2));
  const at::Tensor many = one.expand({19, -1, -1, -1, -1});  // more than pass at a time
  const at::Tensor alone = network->features(one, {"192"})[0];
  EXPECT_LT(row_error(network->features(many, {"192"})[0], alone.expand({19, -1})), 1e-6);
}

TEST(Inception, BitsDoNotDependOnTheNumberOfThreads) {
  const TensorsByName expected = fixture("inception.safetensors");
  const auto network = inception_of(up_to(all_weights(), {"Conv2d_"}));
  const at::Tensor clips = as_clips(expected.at("images")).repeat({20, 1, 1, 1, 1}).slice(0, 0, 37);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor alone = network->features(clips, {"192"})[0];
  for (const int threads : {2, 3}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(network->features(clips, {"192"})[0].equal(alone)) << threads << " threads";
    EXPECT_EQ(at::get_num_threads(), threads);
  }
  at::set_num_threads(before);
}

TEST(Inception, WeightsThatDoNotFitAreNamed) {
  const TensorsByName all = up_to(all_weights(), {"Conv2d_"});
  const auto complaint = [&](auto&& change) {
    TensorsByName weights = all;
    change(weights);
    return error_of(Code::kCheckpoint, [&] { inception_of(weights); });
  };
  EXPECT_TRUE(contains(complaint([](auto& w) { w.erase("Conv2d_2a_3x3.bn.bias"); }),
                       "no tensor 'Conv2d_2a_3x3.bn.bias'"));
  const std::string shape = complaint(
      [](auto& w) { w["Conv2d_2a_3x3.conv.weight"] = w["Conv2d_2a_3x3.conv.weight"].slice(0, 1); });
  EXPECT_TRUE(contains(shape, "[31, 32, 3, 3], expected [32, 32, 3, 3]")) << shape;
  EXPECT_TRUE(contains(
      complaint([](auto& w) { w["Conv2d_4a_3x3.bn.weight"] = w["Conv2d_4a_3x3.bn.weight"] / 0; }),
      "'Conv2d_4a_3x3.bn.weight' holds NaN or infinity"));
  EXPECT_TRUE(contains(complaint([](auto& w) {
                         w["Conv2d_4a_3x3.bn.running_var"] = -w["Conv2d_4a_3x3.bn.running_var"];
                       }),
                       "negative variance"));
  EXPECT_TRUE(contains(complaint([](auto& w) { w["other.weight"] = w["Conv2d_4a_3x3.bn.bias"]; }),
                       "also holds 'other.weight' [192]"));
}

TEST(Inception, ImagesThatDoNotFitAreNamed) {
  const auto network = inception_of(up_to(all_weights(), {"Conv2d_1", "Conv2d_2"}));
  const auto complaint = [&](at::IntArrayRef shape) {
    return error_of(Code::kUsage, [&] { network->features(at::empty(shape, at::kByte), {"64"}); });
  };
  EXPECT_TRUE(contains(complaint({1, 4, 8, 8, 3}), "4 frames, inception takes images"));
  EXPECT_TRUE(contains(complaint({1, 1, 8, 8, 2}), "2 channels"));
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  network->features(at::empty({1, 1, 8, 8, 3}, at::kByte), {});
                                }),
                       "no layer"));
}

TEST(Preprocessing, EachEqualsItsOwnersResize) {
  const TensorsByName expected = fixture("inception.safetensors");
  for (const char* name : {"torch", "tf1", "clean"}) {
    EXPECT_STREQ(name_of(parse_preprocessing(name)), name);
    for (const int64_t side : {13, 33}) {  // one shrinks, one grows
      const at::Tensor made = prepare_images(expected.at("small"), parse_preprocessing(name), side);
      const at::Tensor reference = expected.at(str(name, ".", side));
      EXPECT_LT((made - reference).abs().max().item<double>(), 2e-6) << name << " " << side;
    }
  }
  EXPECT_TRUE(contains(error_of(Code::kUsage, [] { parse_preprocessing("Torch"); }), "'torch'?"));
}

}  // namespace
}  // namespace lf
