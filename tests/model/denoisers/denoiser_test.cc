#include "model/denoisers/denoiser.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/denoisers/attention.h"
#include "tests/error_of.h"
#include "tests/model/denoisers/denoiser_fixture.h"

namespace lf {
namespace {

int64_t count_of(const UnetConfig& config, const DenoiserShape& shape) {
  ParameterTable table(0, at::kCPU, {});
  make_unet(config, shape, Scope(table));
  return table.count();
}

TEST(Unet, ParameterCountsAreDdpmsAndImprovedDdpms) {
  UnetConfig config;
  EXPECT_EQ(count_of(config, {{1, 32, 32, 3}, 3}), 35'746'307);
  config.set_blocks(3);
  config.add_attention(16);
  config.add_attention(8);
  config.set_heads(4);
  config.set_scale_shift(true);
  EXPECT_EQ(count_of(config, {{1, 32, 32, 3}, 6}), 52'546'438);
  for (const int multiplier : {1, 2, 3, 4}) config.add_multipliers(multiplier);
  EXPECT_EQ(count_of(config, {{1, 64, 64, 3}, 6}), 121'063'942);
}

TEST(Unet3d, ParameterCountsAreThePublicPorts) {
  const auto counts = [](int dim, const std::vector<int>& multipliers, int heads = 8,
                         int head_width = 32) {
    Unet3dConfig config;
    config.set_heads(heads);
    config.set_head_width(head_width);
    config.set_spatial_head_width(32);
    config.set_dim(dim);
    for (const int multiplier : multipliers) config.add_multipliers(multiplier);
    ParameterTable table(0, at::kCPU, {});
    make_unet3d(config, {{8, 32, 32, 3}, 3}, Scope(table));
    int64_t trained = 0;
    for (const NamedTensor& weight : table.weights()) trained += weight.tensor.numel();
    return std::pair{table.count(), trained};
  };
  // The port counts the 16 fixed frequencies of its rotary embedding as parameters.
  EXPECT_EQ(counts(32, {1, 2, 4}), (std::pair<int64_t, int64_t>{3'161'939, 3'161'939 - 16}));
  EXPECT_EQ(counts(64, {}), (std::pair<int64_t, int64_t>{35'706'243 + 16, 35'706'243}));
  // attn_heads=2, attn_dim_head=16, which leaves attention within frames at 32; 8 frequencies.
  EXPECT_EQ(counts(16, {1, 2, 4}, 2, 16), (std::pair<int64_t, int64_t>{633'963, 633'963 - 8}));
}

// The sum of the published network's layers; its sinusoids of positions are fixed.
TEST(Dit, ParameterCountIsThePublishedSmallOnes) {
  DitConfig config;
  config.set_layers(12);
  ParameterTable table(0, at::kCPU, {});
  make_dit(config, {{1, 32, 32, 4}, 8, 1000}, Scope(table));
  EXPECT_EQ(table.count(), 32'963'360);
}

class Networks : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Networks, testing::Values("unet", "unet3d", "dit"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Networks, OutputHasTheShapeOfTheClipsForAnyNumberOfFrames) {
  const auto network = small_network(GetParam(), 4);
  for (const int64_t frames : {1, 2, 4, 7}) {
    EXPECT_EQ((*network)(noisy_clips(2, frames)).sizes(),
              (std::vector<int64_t>{2, frames, 8, 8, 3}));
  }
}

TEST_P(Networks, OfOneFrameHaveNoTemporalBlocks) {
  const auto image = small_network(GetParam(), 1), video = small_network(GetParam(), 4);
  for (const NamedTensor& weight : image->table.weights()) {
    EXPECT_EQ(weight.name.find("temporal"), std::string::npos) << weight.name;
  }
  EXPECT_LT(image->table.count(), video->table.count());
  // Weights of the image network load into the video's: same names, same initial values.
  size_t found = 0;
  for (const NamedTensor& weight : image->table.weights()) {
    for (const NamedTensor& other : video->table.weights()) {
      if (other.name == weight.name && at::equal(other.tensor, weight.tensor)) ++found;
    }
  }
  EXPECT_EQ(found, image->table.weights().size());
}

class InflatedNetworks : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, InflatedNetworks, testing::Values("unet", "dit"),
                         [](const auto& info) { return std::string(info.param); });

// Bit for bit, for any weights of the image network.
TEST_P(InflatedNetworks, OfSeveralFramesInitiallyEqualTheImageNetworkOnEveryFrame) {
  const auto image = small_network(GetParam(), 1), video = small_network(GetParam(), 3);
  wake_up(image->table);
  wake_up(video->table, {"temporal.out", "temporal.say", "place"});
  NoisyClips clips = noisy_clips(2, 3), frames = noisy_clips(6, 1);
  frames.z_BTHWC = clips.z_BTHWC.reshape({6, 1, 8, 8, 3});
  const at::Tensor together = (*video)(clips), apart = (*image)(frames);
  EXPECT_GT(together.abs().max().item<double>(), 0.01);
  EXPECT_TRUE(at::equal(together.flatten(0, 1), apart.flatten(0, 1)));
}

// Without positions frames are a set; with positions the frames' indices decide.
TEST_P(Networks, PermutingFramesPermutesTheOutput) {
  const at::Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  for (const bool position : {false, true}) {
    const auto network = small_network(GetParam(), 4, position);
    wake_up(network->table);
    const NoisyClips clips = noisy_clips(2, 4);
    const at::Tensor expected = (*network)(clips).index_select(1, order);
    NoisyClips shuffled = clips;
    shuffled.z_BTHWC = clips.z_BTHWC.index_select(1, order);
    const at::Tensor unaware = (*network)(shuffled);
    shuffled.index_BT = clips.index_BT.index_select(1, order);
    EXPECT_TRUE(at::allclose((*network)(shuffled), expected, 1e-4, 1e-5));
    EXPECT_EQ(at::allclose(unaware, expected, 1e-4, 1e-5), !position);
  }
}

class RelativeNetworks : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, RelativeNetworks, testing::Values("unet3d", "dit"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(RelativeNetworks, DependOnOffsetsOfFramesNotOnIndices) {
  const auto network = small_network(GetParam(), 4);
  wake_up(network->table);
  const NoisyClips clips = noisy_clips(2, 4);
  NoisyClips later = clips, sparse = clips;
  later.index_BT = clips.index_BT + 100;
  sparse.index_BT = clips.index_BT * 3;
  const at::Tensor expected = (*network)(clips);
  EXPECT_TRUE(at::allclose((*network)(later), expected, 1e-4, 1e-4));
  EXPECT_FALSE(at::allclose((*network)(sparse), expected, 1e-4, 1e-4));
}

// Exact, both ways.
TEST_P(Networks, IndependentImagesAndTheVideoDoNotAffectEachOther) {
  const auto network = small_network(GetParam(), 3);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(2, 5);
  clips.role_BT = at::full({1, 5}, static_cast<int64_t>(FrameRole::kLatent), at::kByte);
  clips.role_BT.slice(1, 3).fill_(static_cast<int64_t>(FrameRole::kImage));
  const at::Tensor before = (*network)(clips);
  const auto changed = [&](int64_t frame) {
    NoisyClips other = clips;
    other.z_BTHWC = clips.z_BTHWC.clone();
    other.z_BTHWC.select(1, frame).add_(some_numbers({2, 8, 8, 3}, 5));
    return (*network)(other);
  };
  const at::Tensor image = changed(3), video = changed(1);
  EXPECT_TRUE(at::equal(image.slice(1, 0, 3), before.slice(1, 0, 3)));
  EXPECT_TRUE(at::equal(image.select(1, 4), before.select(1, 4)));
  EXPECT_FALSE(at::equal(image.select(1, 3), before.select(1, 3)));
  EXPECT_TRUE(at::equal(video.slice(1, 3), before.slice(1, 3)));
  EXPECT_FALSE(at::equal(video.select(1, 2), before.select(1, 2)));
}

// An independent image's attention over frames returns its own values.
TEST(Attention, OfAnIndependentImageIsOfItselfAlone) {
  const at::Tensor qkv = some_numbers({2 * 4, 6, 3 * 8}, 3);  // two clips of four frames
  NoisyClips clips;
  clips.z_BTHWC = at::zeros({2, 4, 2, 3, 1});
  clips.index_BT = at::arange(4).unsqueeze(0);
  clips.role_BT = at::tensor({1, 1, 1, 3}, at::kByte).unsqueeze(0);
  const at::Tensor mixed = attend_over_frames({}, qkv, 2, frame_context(clips, {}, {}));
  for (const int64_t image : {3, 7}) {
    EXPECT_TRUE(at::equal(mixed[image], qkv[image].slice(1, 16)));  // its own values
  }
  clips.z_BTHWC = at::zeros({2, 3, 2, 3, 1});
  clips.role_BT.reset();
  const at::Tensor video = at::cat({qkv.slice(0, 0, 3), qkv.slice(0, 4, 7)});
  const at::Tensor alone = attend_over_frames({}, video, 2, frame_context(clips, {}, {}));
  EXPECT_TRUE(at::allclose(mixed.slice(0, 0, 3), alone.slice(0, 0, 3), 1e-5, 1e-6));
}

TEST_P(Networks, AbsentFramesAffectNoOther) {
  const auto network = small_network(GetParam(), 4);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(2, 4);
  clips.role_BT = at::tensor({2, 2, 0, 1}, at::kByte).unsqueeze(0);
  const at::Tensor before = (*network)(clips);
  clips.z_BTHWC = clips.z_BTHWC.clone();
  clips.z_BTHWC.slice(1, 0, 2).fill_(9);
  EXPECT_TRUE(at::equal((*network)(clips).slice(1, 2), before.slice(1, 2)));
}

TEST_P(Networks, OutputDependsOnEachFramesNoiseLevel) {
  const auto network = small_network(GetParam(), 2);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(1, 2);
  const at::Tensor before = (*network)(clips);
  clips.signal_BT = at::tensor({300.0F, 310.0F}).unsqueeze(0);
  const at::Tensor after = (*network)(clips);
  const auto change = [&](int64_t frame) {
    return (after.select(1, frame) - before.select(1, frame)).abs().max().item<double>();
  };
  EXPECT_GT(change(1), 1e-4);
  EXPECT_GT(change(1), change(0));
}

TEST_P(Networks, OutputDependsOnTheClassAndNoClassHasItsOwnEmbedding) {
  const auto network = small_network(GetParam(), 2, true, 3);
  wake_up(network->table);
  NoisyClips clips = noisy_clips(2, 2);
  clips.z_BTHWC = clips.z_BTHWC.slice(0, 0, 1).expand({2, 2, 8, 8, 3});
  clips.labels_B = at::tensor({0, 2}, at::kLong);
  const at::Tensor classes = (*network)(clips);
  EXPECT_FALSE(at::allclose(classes[0], classes[1], 1e-4, 1e-5));
  clips.labels_B = at::tensor({-1, -1}, at::kLong);
  const at::Tensor none = (*network)(clips);
  clips.labels_B.reset();
  EXPECT_TRUE(at::equal((*network)(clips), none));
  EXPECT_FALSE(at::allclose(none[0], classes[0], 1e-4, 1e-5));
}

TEST(Attention, OfManyTokensEqualsTheFormula) {
  const at::Tensor q = some_numbers({2, 3, 80, 8}, 1), k = some_numbers({2, 3, 80, 8}, 2),
                   v = some_numbers({2, 3, 80, 8}, 3), bias = some_numbers({1, 3, 80, 80}, 4);
  for (const at::Tensor& added : {at::Tensor(), bias}) {
    at::Tensor logits = at::matmul(q, k.transpose(-1, -2)) / std::sqrt(8.0);
    if (added.defined()) logits = logits + added;
    const at::Tensor expected = at::matmul(at::softmax(logits, -1), v);
    EXPECT_TRUE(at::allclose(attend({}, q, k, v, added), expected, 1e-4, 1e-5));
  }
}

TEST(DistanceBias, HasTheRangesOfT5) {
  ParameterTable table(0, at::kCPU, {});
  const DistanceBias bias(Scope(table), 1);
  const at::NoGradGuard no_grad;
  bias.weight.copy_(at::arange(32).unsqueeze(1));
  // Query 40 against keys before and after it: exact up to 7 frames, then growing ranges to 32.
  const std::pair<int64_t, double> expected[] = {{40, 0},  {39, 1},  {33, 7},    {32, 8},  {28, 10},
                                                 {20, 13}, {9, 15},  {-100, 15}, {41, 17}, {47, 23},
                                                 {48, 24}, {52, 26}, {200, 31}};
  for (const auto& [key, range] : expected) {
    const at::Tensor value = bias(at::tensor({int64_t{40}, key}, at::kLong).unsqueeze(0));
    EXPECT_EQ(value[0][0][0][0][1].item<double>(), range) << key;
  }
}

TEST(Rotary, ProductsDependOnTheOffsetOnly) {
  ParameterTable table(0, at::kCPU, {});
  const Rotary rotary(Scope(table), 4);
  const at::Tensor q = some_numbers({1, 1, 1, 2, 6}, 1), k = some_numbers({1, 1, 1, 2, 6}, 2);
  const auto product = [&](int64_t from, int64_t to) {
    const at::Tensor angles = rotary.angles(at::tensor({from, to}, at::kLong).unsqueeze(0));
    return at::matmul(rotated(q, angles), rotated(k, angles).transpose(-1, -2))[0][0][0][0][1]
        .item<double>();
  };
  EXPECT_NEAR(product(2, 5), product(12, 15), 1e-5);
  EXPECT_GT(std::abs(product(2, 5) - product(2, 6)), 1e-3);
}

TEST(Sinusoid, ComesInBothConventions) {
  const at::Tensor number = at::tensor({3.0F});
  const at::Tensor a = sinusoid(number, 4, Sinusoid::kCosineFirst)[0],
                   b = sinusoid(number, 4, Sinusoid::kSineFirst)[0];
  const double expected_a[] = {std::cos(3), std::cos(0.03), std::sin(3), std::sin(0.03)};
  const double expected_b[] = {std::sin(3), std::sin(0.0003), std::cos(3), std::cos(0.0003)};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(a[i].item<double>(), expected_a[i], 1e-6);
    EXPECT_NEAR(b[i].item<double>(), expected_b[i], 1e-6);
  }
}

TEST(Unet, ShapesThatDoNotFitAreUsageErrors) {
  UnetConfig config;
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  count_of(config, {{1, 12, 12, 3}, 3});
                                }),
                       "divisible by 8"));
  config.set_width(12);
  config.add_multipliers(1);
  config.set_heads(5);
  EXPECT_TRUE(contains(error_of(Code::kUsage,
                                [&] {
                                  count_of(config, {{1, 16, 16, 3}, 3});
                                }),
                       "heads is 5"));
}

}  // namespace
}  // namespace lf
