#include "model/extractors/i3d.h"

#include <gtest/gtest.h>

#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

std::unique_ptr<Extractor> i3d_of(TensorsByName tensors,
                                  std::map<std::string, std::string> metadata = {}) {
  Weights weights = weights_of(std::move(tensors), std::move(metadata));
  return make_i3d(weights);
}

TEST(I3d, LogitsEqualAnIndependentPortsForTheSameWeights) {
  const TensorsByName expected = fixture("i3d.safetensors");
  const auto network = i3d_of(formula_tensors(layout_file("i3d")));
  EXPECT_EQ(network->name(), "i3d");
  EXPECT_EQ(network->layers().front().dim, 400);
  for (const int frames : {9, 12}) {
    const at::Tensor made =
        network->features(expected.at(str("clip.", frames)), {"logits"}).front();
    EXPECT_LT(row_error(made, expected.at(str("logits.", frames))), 1e-4) << frames;
  }
}

TEST(I3d, ShortClipsForeignWeightsAndWrongEpsilonsAreNamed) {
  const TensorsByName all = formula_tensors(layout_file("i3d"));
  const auto network = i3d_of(all);
  EXPECT_EQ(network->frames(), 9);
  const std::string message = error_of(Code::kUsage, [&] {
    network->features(at::empty({1, 8, 20, 20, 3}, at::kByte), {"logits"});
  });
  EXPECT_TRUE(contains(message, "8 frames, i3d takes at least 9")) << message;
  TensorsByName lacking = all;
  lacking.erase("Mixed_4e.b2b.conv3d.weight");
  EXPECT_TRUE(contains(error_of(Code::kCheckpoint, [&] { i3d_of(lacking); }),
                       "no tensor 'Mixed_4e.b2b.conv3d.weight'"));
  EXPECT_TRUE(contains(error_of(Code::kCheckpoint,
                                [&] {
                                  i3d_of(all, {{"batch_norm_epsilon", "-1"}});
                                }),
                       "batch_norm_epsilon is '-1'"));
}

}  // namespace
}  // namespace lf
