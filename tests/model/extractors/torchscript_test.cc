#include "model/extractors/torchscript.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <fstream>

#include "eval/open_extractor.h"
#include "tests/model/extractors/extractor_fixture.h"

namespace lf {
namespace {

// Files made by scripting a forward().
class TorchScriptFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/lf-torchscript-" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& code, int64_t frames = 0) {
    torch::jit::Module module("made");
    if (frames > 0) module.register_attribute("frames", c10::IntType::get(), frames);
    module.define(code);
    const std::string path = folder_ + "/made.pt";
    module.save(path);
    return path;
  }

  std::unique_ptr<Extractor> open(const std::string& path,
                                  Preprocessing id = Preprocessing::kTorch) {
    return open_extractor(path, id, at::kCPU, {});
  }

  std::string folder_;
};

constexpr const char* kMeans = R"(
def forward(self, x):
    return x.mean([2, 3])
)";

TEST_F(TorchScriptFile, AnyModuleSeesBytesAsFloatsAndNamesItself) {
  const auto network = open(file(kMeans));
  EXPECT_EQ(network->name(), "torchscript");
  EXPECT_EQ(network->hash().size(), 16u);
  ASSERT_EQ(network->layers().size(), 1u);
  EXPECT_EQ(network->layers()[0].dim, 3);
  EXPECT_EQ(network->frames(), 1);
  const at::Tensor images = fixture("inception.safetensors").at("images");
  const at::Tensor made = network->features(as_clips(images), {"features"})[0];
  EXPECT_LT(row_error(made, images.to(at::kDouble).mean({1, 2})), 1e-6);
  EXPECT_TRUE(contains(error_of(Code::kUsage, [&] { open(file(kMeans), Preprocessing::kTf1); }),
                       "leave tf1 out"));
}

TEST_F(TorchScriptFile, AModuleWithFramesTakesClips) {
  const auto network = open(file(R"(
def forward(self, x):
    return x.mean([3, 4]).flatten(1)[:, :4]
)",
                                 4));
  EXPECT_EQ(network->frames(), 4);
  at::Tensor clip = at::zeros({1, 4, 6, 6, 3}, at::kByte);
  for (int t = 0; t < 4; ++t) clip.select(1, t).fill_(10 * t);
  const at::Tensor made = network->features(clip, {"features"})[0];
  for (int t = 0; t < 4; ++t) EXPECT_EQ(made[0][t].item<double>(), 10 * t);  // red over time
}

constexpr const char* kLikeNvidias = R"(
def forward(self, img, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False):
    assert return_features
    assert img.size(1) == 3
    return img.amax([2, 3])[:, :1].expand(img.size(0), 2048)
)";

TEST_F(TorchScriptFile, NvidiasInceptionIsCalledForFeaturesUnderEachPreprocessing) {
  const at::Tensor white = at::full({2, 1, 8, 8, 3}, 255, at::kByte);
  const std::string path = file(kLikeNvidias);
  // The network computes (x - 128) / 128 itself; with `torch` 255 must become 1.
  for (const auto& [id, largest] : {std::pair{Preprocessing::kTorch, 256.0},
                                    {Preprocessing::kTf1, 255.0},
                                    {Preprocessing::kClean, 255.0}}) {
    const auto network = open(path, id);
    EXPECT_EQ(network->name(), "inception");
    EXPECT_EQ(network->layers()[0].name, "2048");
    EXPECT_NEAR(network->features(white, {"2048"})[0].max().item<double>(), largest, 1e-3);
  }
}

TEST_F(TorchScriptFile, StyleganVsI3dIsCalledWithItsKeywords) {
  const auto network = open(file(R"(
def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
    assert rescale and resize and return_features
    return x.mean([2, 3, 4])[:, :1].expand(x.size(0), 400)
)"));
  EXPECT_EQ(network->name(), "i3d");
  EXPECT_EQ(network->frames(), 9);
  const at::Tensor made =
      network->features(at::full({2, 9, 8, 8, 3}, 51, at::kByte), {"logits"})[0];
  EXPECT_EQ(made.sizes(), (std::vector<int64_t>{2, 400}));
  EXPECT_NEAR(made[1][399].item<double>(), 51, 1e-4);
}

TEST_F(TorchScriptFile, WhatIsNoExtractorIsNamed) {
  const auto complaint = [&](const std::string& path) {
    return error_of(Code::kCheckpoint, [&] { open(path); });
  };
  const std::string maps = complaint(file("\ndef forward(self, x):\n    return x\n"));
  EXPECT_TRUE(contains(maps, "expected [1, features]")) << maps;
  const std::string thrown =
      complaint(file("\ndef forward(self, x):\n    assert x.size(1) == 4\n    return x\n"));
  EXPECT_TRUE(contains(thrown, "cannot be called with")) << thrown;
  EXPECT_FALSE(contains(thrown, "\n") || contains(thrown, "frame #")) << thrown;
  const std::string pair = complaint(file("\ndef forward(self, x):\n    return x, x\n"));
  EXPECT_TRUE(contains(pair, "expected one tensor")) << pair;
  const std::string none = complaint(file("\ndef other(self, x):\n    return x\n"));
  EXPECT_TRUE(contains(none, "no forward()")) << none;
  // A state_dict is a zip too.
  const std::string state = complaint(str(LF_FIXTURES, "/extractors/zip.pth"));
  EXPECT_TRUE(contains(state, "no TorchScript") && contains(state, "convert_weights")) << state;
  EXPECT_FALSE(contains(state, "frame #")) << state;
  const std::string legacy = complaint(str(LF_FIXTURES, "/extractors/legacy.pth"));
  EXPECT_TRUE(contains(legacy, "is a pickle")) << legacy;
  EXPECT_TRUE(contains(complaint(str(LF_FIXTURES, "/extractors/inception.safetensors")),
                       "of no extractor we know"));
  std::ofstream(folder_ + "/short.pt") << "PK";
  EXPECT_TRUE(contains(complaint(folder_ + "/short.pt"), "short.pt"));
  const auto usage = [&](const std::string& path) {
    return error_of(Code::kUsage, [&] { open(path); });
  };
  EXPECT_TRUE(contains(usage(folder_), "is a folder"));
  EXPECT_TRUE(contains(usage(folder_ + "/none.pt"), "there is no file"));
}

}  // namespace
}  // namespace lf
