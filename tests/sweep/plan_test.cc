// Sweeps as files, and the arms, hashes and images that they come to.
#include "sweep/plan.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sweep/identity.h"
#include "sweep/runs.h"
#include "tests/error_of.h"

namespace lf {
namespace {

constexpr char kCommon[] = R"(
  set: ["source.generated={ kind: \"shapes\" count: 40 }", "source.size=8", "recipe.frames=4",
        "model.autoencoder={ width: 8 latent: 4 }", "train.batch=4"]
  measure { metric: "psnr" }
)";

class SweepFile : public ::testing::Test {
 protected:
  SweepFile() { std::filesystem::create_directories(folder_); }
  ~SweepFile() override { std::filesystem::remove_all(folder_); }

  Sweep load(const std::string& text, const std::vector<std::string>& sets = {}) {
    const std::string path = folder_ + "/a.sweep";
    std::ofstream(path) << kCommon << text;
    return load_sweep(path, sets);
  }
  SweepPlan plan(const std::string& text, const std::vector<std::string>& sets = {}) {
    return plan_of(load(text), sets);
  }
  std::string refusal(const std::string& text) {
    return error_of(Code::kUsage, [&] { plan(text); });
  }

  const std::string folder_ = ::testing::TempDir() + "lf-sweep-" + std::to_string(::getpid());
};

TEST_F(SweepFile, AxesMultiplyArmsAndNameThem) {
  const SweepPlan found = plan(R"(
    arm { name: "mask" set: "recipe.mask={}" } arm { name: "noise" base: "mask" set: "recipe.noise={}" }
    axis { option: "recipe.frames" value: ["2", "4"] along { option: "train.ema.half_life_images" value: ["", "7"] } }
    axis { option: "recipe.topology" value: ["CHAIN", "STAR"] })");
  ASSERT_EQ(found.arms.size(), 8U);
  EXPECT_EQ(found.arms[0].name, "mask-frames=2-topology=CHAIN");
  const ArmPlan& last = found.arms.back();
  EXPECT_EQ(last.name, "noise-frames=4-topology=STAR");
  EXPECT_EQ(last.at.at("recipe.frames"), "4");
  EXPECT_EQ(last.config.recipe().frames(), 4);
  EXPECT_TRUE(last.config.recipe().has_noise());
  EXPECT_EQ(last.config.train().ema().half_life_images(), 7);
  EXPECT_EQ(arms_chosen(found, "noise").size(), 4U);
  EXPECT_EQ(arms_chosen(found, "mask-frames=2-topology=CHAIN,noise").size(), 5U);
}

TEST_F(SweepFile, WhatIsWrongIsNamedWithTheNearest) {
  const std::string arms = "arm { name: \"first\" } arm { name: \"second\" }";
  EXPECT_NE(refusal("axis { option: \"recipe.framse\" value: \"2\" }")
                .find("did you mean 'recipe.frames'?"),
            std::string::npos);
  EXPECT_NE(refusal(arms + "verdict { name: \"v\" compare { better: \"frist\" than: \"second\" } }")
                .find("did you mean 'first'?"),
            std::string::npos);
  EXPECT_NE(refusal(arms + "verdikt {}").find("did you mean 'verdict'?"), std::string::npos);
  EXPECT_NE(refusal(arms + "seeds: 0").find("seeds is 0"), std::string::npos);
  EXPECT_NE(refusal("arm { name: \"a\" base: \"b\" } arm { name: \"b\" base: \"a\" }")
                .find("begins with itself"),
            std::string::npos);
  EXPECT_NE(
      refusal(arms + "first { name: \"x\" set: \"model.autoencoder.perceptual.network=${y}\" }"
                     "first { name: \"y\" set: \"model.autoencoder.perceptual.network=${x}\" }")
          .find("x -> y -> x"),
      std::string::npos);
  EXPECT_NE(refusal(arms + "set: \"source.embeddings=${jugde}\" first { name: \"judge\" }")
                .find("did you mean 'judge'?"),
            std::string::npos);
  EXPECT_NE(refusal(arms + "set: \"train.seed=1\"").find("`seeds`"), std::string::npos);
  EXPECT_NE(error_of(Code::kUsage, [&] { arms_chosen(plan(arms), "secnd"); })
                .find("did you mean 'second'?"),
            std::string::npos);
  EXPECT_NE(error_of(Code::kUsage, [&] { load(arms, {"sedes=2"}); }).find("did you mean 'seeds'?"),
            std::string::npos);
}

TEST_F(SweepFile, RecipesThatCannotBeAreRefusedByTheArm) {
  const std::string said =
      refusal(R"(arm { name: "star" set: ["recipe.blur={}", "recipe.topology=STAR"] })");
  EXPECT_NE(said.find("arm star: recipe.topology is STAR"), std::string::npos) << said;
}

TEST_F(SweepFile, ConfigsThatDifferInTrainingUnsaidAreRefused) {
  const std::string config = folder_ + "/b.pbtxt";
  std::ofstream(config) << "train { optimizer { lr: 0.5 } }";
  EXPECT_NE(refusal("arm { name: \"a\" } arm { name: \"b\" config: \"b.pbtxt\" }")
                .find("differ in train.optimizer.lr"),
            std::string::npos);
  EXPECT_EQ(
      plan("arm { name: \"a\" } arm { name: \"b\" set: \"train.optimizer.lr=0.5\" }").arms.size(),
      2U);
}

TEST_F(SweepFile, PlaceholdersAreNamesOfWhatIsTrainedFirst) {
  const Sweep sweep = load(R"(arm { name: "a" }
    first { name: "late" set: "model.autoencoder.perceptual.network=${early}" } first { name: "early" })");
  const std::vector<const First*> order = firsts_in_order(sweep);
  EXPECT_EQ(order[0]->name(), "early");
  EXPECT_EQ(with_placeholders("${early}/${late}", {{"early", "e"}, {"late", "l"}}), "e/l");
}

TEST_F(SweepFile, HeldOutImagesFollowFromTheSource) {
  const SweepPlan found = plan("arm { name: \"a\" } samples: 30");
  const Config& arm = found.arms[0].config;
  EXPECT_EQ(held_out_data(found.sweep, arm).source().generated().seed(), 1U);
  EXPECT_EQ(held_out_data(found.sweep, arm).source().generated().count(), 30);
  Config files = arm;
  files.mutable_source()->mutable_npy()->set_path("a.npy");
  EXPECT_EQ(training_data(found.sweep, files).source().split().part(), SplitConfig::TRAIN);
  const SplitConfig split = held_out_data(found.sweep, files, 60).source().split();
  EXPECT_EQ(split.part(), SplitConfig::TEST);
  EXPECT_NEAR(split.test(), 0.05, 1e-9);  // 30 of the 60 that a tenth is
}

TEST_F(SweepFile, ImagesAreWholeStepsOfEachArmsShare) {
  SweepPlan found = plan("arm { name: \"a\" } arm { name: \"b\" } arm { name: \"c\" }");
  set_images(found, 103, {1, 0.5, 0.001});
  EXPECT_EQ(found.arms[0].images, 100);
  EXPECT_EQ(found.arms[1].images, 48);
  EXPECT_EQ(found.arms[2].images, 4);
}

TEST_F(SweepFile, HashesCoverWhatDecidesTheNumbersAndNoPath) {
  const auto hash = [&](const std::vector<std::string>& sets, const std::string& more = "",
                        int seed = 0) {
    SweepPlan found = plan("arm { name: \"a\" }" + more, sets);
    set_images(found, 40, {1});
    return Identities(found).row(found.arms[0], seed);
  };
  const std::string base = hash({});
  EXPECT_EQ(
      hash({"train.threads=3", "checkpoint.keep_last=1", "train.log_images=7", "loader.threads=1"}),
      base);
  EXPECT_EQ(hash({"model.autoencoder.width=8", "recipe.topology=CHAIN"}), base);  // as they are
  EXPECT_NE(hash({"train.optimizer.lr=0.5"}), base);
  EXPECT_NE(hash({"source.generated.seed=5"}), base);
  EXPECT_NE(hash({}, "", 1), base);
  EXPECT_NE(hash({}, "measure { metric: \"ssim\" }"), base);
  std::vector<std::string> found;
  for (const char* place : {"one", "two"}) {
    const std::string images = folder_ + "/" + place;
    std::filesystem::create_directories(images + "/class");
    std::ofstream(images + "/class/image.png") << "bytes";
    found.push_back(hash({"source.folder.path=" + images}));
  }
  EXPECT_EQ(found[0], found[1]);
  std::ofstream(folder_ + "/two/class/image.png") << "Bytes";
  EXPECT_NE(hash({"source.folder.path=" + folder_ + "/two"}), found[0]);
}

TEST_F(SweepFile, RunsGoSeedBySeedAndExtraArmsAreAskedFor) {
  const SweepPlan found = plan(
      "arm { name: \"a\" } arm { name: \"b\" seeds: 1 } arm { name: \"x\" extra: true } seeds: 2");
  EXPECT_EQ(runs_of(found, arms_chosen(found, "")).size(), 3U);
  const std::vector<ArmRun> some = runs_of(found, arms_chosen(found, "x"));
  ASSERT_EQ(some.size(), 5U);
  EXPECT_FALSE(some[0].asked);
  EXPECT_TRUE(some[2].asked);
}

}  // namespace
}  // namespace lf
