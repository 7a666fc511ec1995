#include "model/extractors/lpips.h"

#include <gtest/gtest.h>

#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

std::unique_ptr<PairDistance> lpips_of(TensorsByName tensors) {
  Weights weights = weights_of(std::move(tensors));
  EXPECT_TRUE(is_lpips(weights));
  return make_lpips(weights);
}

TEST(Lpips, DistancesEqualThePackagesForTheSameWeights) {
  const TensorsByName expected = fixture("lpips.safetensors");
  for (const std::string net : {"alex", "vgg", "squeeze"}) {
    const auto lpips = lpips_of(formula_tensors(layout_file("lpips-" + net)));
    EXPECT_EQ(lpips->name(), "lpips-" + net);
    const at::Tensor made = lpips->distance(expected.at("a"), expected.at("b"));
    const at::Tensor reference = expected.at(net);
    ASSERT_EQ(made.sizes(), reference.sizes());
    for (int64_t i = 0; i < made.size(0); ++i) {
      const double want = reference[i].item<double>(), got = made[i].item<double>();
      EXPECT_NEAR(got, want, 1e-4 * want) << net << " " << i;
    }
    EXPECT_EQ(made[2].item<double>(), 0) << "of an image to itself";
  }
}

TEST(Lpips, ImagesAndWeightsThatDoNotFitAreNamed) {
  const TensorsByName all = formula_tensors(layout_file("lpips-alex"));
  const auto lpips = lpips_of(all);
  const auto complaint = [&](at::IntArrayRef a, at::IntArrayRef b) {
    return error_of(Code::kUsage,
                    [&] { lpips->distance(at::empty(a, at::kByte), at::empty(b, at::kByte)); });
  };
  EXPECT_TRUE(contains(complaint({2, 40, 40, 3}, {2, 40, 41, 3}), "of one size"));
  EXPECT_TRUE(contains(complaint({2, 30, 40, 3}, {2, 30, 40, 3}), "at least 31x31"));
  EXPECT_TRUE(contains(complaint({2, 40, 40, 2}, {2, 40, 40, 2}), "2 channels"));
  EXPECT_EQ(
      lpips->distance(at::empty({0, 40, 40, 3}, at::kByte), at::empty({0, 40, 40, 3}, at::kByte))
          .numel(),
      0);
  TensorsByName lacking = all;
  lacking.erase("lin3.weight");
  EXPECT_TRUE(contains(error_of(Code::kCheckpoint, [&] { lpips_of(lacking); }), "'lin3.weight'"));
  TensorsByName other = all;
  other["features.3.squeeze.weight"] = other["lin0.weight"];
  EXPECT_TRUE(contains(error_of(Code::kCheckpoint, [&] { lpips_of(other); }), "also holds"));
}

// Every network at its smallest size: the limits are exact.
TEST(Lpips, TheSmallestImagesAreSeen) {
  for (const auto& [net, side] : {std::pair{"alex", 31}, {"vgg", 16}, {"squeeze", 17}}) {
    const auto lpips = lpips_of(formula_tensors(layout_file(str("lpips-", net))));
    const at::Tensor black = at::zeros({1, side, side, 1}, at::kByte);
    EXPECT_GT(lpips->distance(black, black + 200).item<double>(), 0) << net;
  }
}

}  // namespace
}  // namespace lf
