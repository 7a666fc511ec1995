#include "config/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "config/meaning.h"

namespace lf {
namespace {

std::string write_temp(const std::string& name, const std::string& text) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

// The message of the Error that `body` throws; its code must be kUsage.
template <typename Body>
std::string usage_error(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(ConfigFile, DefaultsComeFromTheProto) {
  const Config config = load_config("", {});
  EXPECT_EQ(config.train().batch(), 128);
  EXPECT_EQ(config.recipe().frames(), 8);
}

TEST(ConfigFile, LaterSetsWin) {
  const Config config =
      load_config("", {"train.batch=64", "train.batch=32", "train.precision=bf16"});
  EXPECT_EQ(config.train().batch(), 32);
  EXPECT_EQ(config.train().precision(), BF16);
}

std::string recipe_after(const std::vector<std::string>& sets) {
  return load_config("", sets).recipe().ShortDebugString();
}

TEST(SetOption, ListsOfGroupsAreSetAppendedAndIndexed) {
  const std::string list = "recipe.composite.operators";
  const std::string both = recipe_after({list + "={blur {}},{noise {t_max: 250}}"});
  EXPECT_EQ(both, "composite { operators { blur { } } operators { noise { t_max: 250 } } }");
  EXPECT_EQ(recipe_after({list + "={blur {}}, {noise {t_max: 250}}"}), both);
  EXPECT_EQ(recipe_after({list + "=[{blur {}}, {noise {t_max: 250}}]"}), both);
  EXPECT_EQ(recipe_after({list + "={blur {}}", list + "+={noise {t_max: 250}}"}), both);
  EXPECT_EQ(recipe_after({list + "={blur {}},{noise {}}", list + ".1.noise.t_max=250"}), both);
  EXPECT_EQ(recipe_after({list + "={blur {}},{mask {}}", list + ".1={noise {t_max: 250}}"}), both);
  EXPECT_EQ(recipe_after({"recipe.composite={operators {blur {}} operators {noise {t_max: 250}}}"}),
            both);
}

TEST(SetOption, ListsOfValuesAreSetAppendedAndIndexed) {
  for (const std::vector<std::string>& sets :
       {std::vector<std::string>{"recipe.blur.sigmas=0.5,1,2"},
        {"recipe.blur.sigmas=[0.5, 1, 2]"},
        {"recipe.blur.sigmas=0.5", "recipe.blur.sigmas+=1,2"},
        {"recipe.blur.sigmas=0.5,3,2", "recipe.blur.sigmas.1=1"}}) {
    EXPECT_EQ(recipe_after(sets), "blur { sigmas: 0.5 sigmas: 1 sigmas: 2 }");
  }
  EXPECT_EQ(recipe_after({"recipe.blur.sigmas=1", "recipe.blur.sigmas="}), "blur { }");
}

TEST(SetOption, WhatIsNoListOrNoElementIsRefusedWithTheFormThatIs) {
  const std::string list = "recipe.composite.operators";
  for (const auto& [set, words] : std::vector<std::pair<std::string, std::string>>{
           {list + ".0.blur.strength=1",
            "the list has 0 elements, numbered from 0; " + list + "+="},
           {list + ".blur.strength=1", list + ".0.blur=..."},
           {list + "=blur", "expected {...}, such as --set '" + list + "={}'"},
           {"recipe.noise=t_max: 3", "or one of them, recipe.noise.kind=..."},
           {"recipe.frames+=3", "it is no list; use recipe.frames=..."},
           {"recipe.frames.0=3", "goes below 'frames', which is a single option"},
           {"recipe.blur.sigmas.0.x=3", "numbered from 0"}}) {
    const std::string message = usage_error([&, &option = set] { load_config("", {option}); });
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
}

TEST(SetOption, TwoOfWhichOnlyOneCanBeAreRefused) {
  const std::string file = write_temp("blurred.pbtxt", "recipe { blur { strength: 0.2 } }");
  EXPECT_EQ(load_config(file, {"recipe.noise.t_max=9"}).recipe().ShortDebugString(),
            "noise { t_max: 9 }");
  for (const std::vector<std::string>& sets :
       {std::vector<std::string>{"recipe.blur={}", "recipe.noise={}"},
        {"recipe.blur.strength=0.1", "recipe.frames=3", "recipe.noise.t_max=9"},
        {"recipe={ blur {} }", "recipe.noise={}"}}) {
    const std::string message = usage_error([&] { load_config("", sets); });
    EXPECT_NE(message.find("--set chooses both recipe.blur and recipe.noise, which exclude each "
                           "other; give one of them, or both, one after the other: --set "
                           "'recipe.composite.operators={blur {}},{noise {}}'"),
              std::string::npos)
        << message;
  }
  usage_error([] { load_config("", {"model.cvivit.quantiser.ema={}", "model.vqvae={}"}); });
  usage_error([] {
    load_config("", {"recipe.composite.operators={}", "recipe.composite.operators.0.blur={}",
                     "recipe.composite.operators.0.noise={}"});
  });
}

TEST(SetOption, WhatACorruptionDoesNotUseWithoutCorruptedFramesIsRefused) {
  const std::string file = write_temp("noisy.pbtxt", "recipe { frames: 1 noise { t_max: 9 } }");
  EXPECT_EQ(load_config(file, {"train.batch=8"}).recipe().noise().t_max(), 9);
  for (const char* set : {"recipe.noise.t_max=8", "recipe.mask={}", "recipe.topology=STAR",
                          "recipe.composite.operators={blur {}}", "store.draws=2"}) {
    const std::string message = usage_error([&] { load_config(file, {set}); });
    const std::string name = split(set, '=').front();
    EXPECT_EQ(message.find("--set " + name + "="), 0U) << message;
    EXPECT_NE(message.find("would do nothing here: recipe.frames is 1"), std::string::npos);
    EXPECT_NO_THROW(load_config(file, {set, "recipe.frames=3"})) << set;
  }
}

TEST(SetOption, AChoiceThatReplacesTheFilesIsToldWithWhatItIdles) {
  const std::string file =
      write_temp("videos.pbtxt",
                 "source { frames { path: \"a\" } size: 8 window { frames: 4 stride: 1 hop: 2 } }");
  const auto told = [&](const std::string& set) {
    return join(replaced_choices(load_config(file, {}), load_config(file, {set})), "|");
  };
  EXPECT_EQ(told("source.folder.path=b"),
            "--set source.folder replaces source.frames of the config; source.window.frames, "
            "source.window.hop do nothing beside it");
  EXPECT_EQ(told("source.npy.path=b"), "--set source.npy replaces source.frames of the config");
  EXPECT_EQ(told("source.frames.path=b"), "");
  EXPECT_EQ(told("model.unet={}"), "");
}

TEST(ConfigFile, UnknownOptionNamesTheNearest) {
  const std::string message = usage_error([] { load_config("", {"train.bach=64"}); });
  EXPECT_NE(message.find("did you mean 'train.batch'?"), std::string::npos) << message;
}

TEST(ConfigFile, UnknownOptionInAFileNamesTheNearest) {
  const std::string path = write_temp("unknown.pbtxt", "train { bacth: 3 }\n");
  const std::string message = usage_error([&] { load_config(path, {}); });
  EXPECT_NE(message.find("line 1"), std::string::npos) << message;
  EXPECT_NE(message.find("did you mean 'batch'?"), std::string::npos) << message;
}

TEST(ConfigFile, ValuesOutOfRangeAreRefused) {
  for (const char* set : {"train.batch=0", "train.batch=9999999999", "train.batch=1.5",
                          "comm.timeout_seconds=nan", "train.batch=", "train.seed=-1"}) {
    usage_error([&] { load_config("", {set}); });
  }
}

TEST(ConfigFile, BaseIsReadFirstAndCyclesAreRefused) {
  write_temp("under.pbtxt", "train { batch: 8 seed: 5 }");
  const std::string over = write_temp("over.pbtxt", "base: 'under.pbtxt' train { batch: 16 }");
  const Config config = load_config(over, {});
  EXPECT_EQ(config.train().batch(), 16);
  EXPECT_EQ(config.train().seed(), 5U);

  write_temp("one.pbtxt", "base: 'two.pbtxt'");
  const std::string two = write_temp("two.pbtxt", "base: 'one.pbtxt'");
  EXPECT_NE(usage_error([&] { load_config(two, {}); }).find("includes itself"), std::string::npos);
}

TEST(ConfigFile, RandomBytesGiveOneSentence) {
  std::string bytes(2 << 20, '\0');
  uint32_t state = 1;
  for (char& c : bytes) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  for (const size_t size : {size_t{2} << 20, size_t{1000}, size_t{10}}) {
    const std::string path = write_temp("noise.pbtxt", bytes.substr(0, size));
    const std::string message = usage_error([&] { load_config(path, {}); });
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_LT(message.size(), 600U);
  }
}

TEST(ConfigFile, PrintedConfigReadsBackEqual) {
  const Config config = load_config("", {"train.batch=64", "recipe.frames=4", "name=a \"b\""});
  const std::string path = write_temp("printed.pbtxt", print_config(config));
  EXPECT_EQ(print_config(load_config(path, {})), print_config(config));
  EXPECT_NE(print_config(config).find("timeout_seconds: 300"), std::string::npos);
}

TEST(ConfigFile, FreeOptionsDoNotChangeTheFingerprint) {
  const Config config = load_config("", {});
  const Config other_timeout = load_config("", {"comm.timeout_seconds=10"});
  const Config other_seed = load_config("", {"train.seed=64"});
  EXPECT_EQ(config_fingerprint(config), config_fingerprint(other_timeout));
  EXPECT_NE(config_fingerprint(config), config_fingerprint(other_seed));
  EXPECT_EQ(config_differences(config, other_timeout, false),
            std::vector<std::string>{"comm.timeout_seconds: 300 -> 10"});
  EXPECT_TRUE(config_differences(config, other_timeout, true).empty());
  EXPECT_EQ(config_differences(load_config("", {"model.autoencoder.width=8"}),
                               load_config("", {"model.vqvae={}", "train.seed=1"}), true),
            (std::vector<std::string>{"model.autoencoder: {} -> (unset)", "train.seed: 0 -> 1",
                                      "model.vqvae: (unset) -> {}"}));
}

TEST(ConfigFile, EveryShippedConfigLoads) {
  int configs = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(LF_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".pbtxt") continue;
    ++configs;
    EXPECT_NO_THROW(load_config(entry.path().string(), {})) << entry.path();
  }
  EXPECT_GE(configs, 9);
}

TEST(ConfigFile, DocumentedOptionsSayWhatTheyGoWith) {
  for (const auto& [path, only_with] :
       {std::pair{"source.window.hop", "source.npy or source.frames or source.videos"},
        {"train.batch", ""},
        {"recipe.blur.ratio", "recipe.frames not 1"},
        {"store.draws", "no store.fresh_draws and recipe.frames not 1"},
        {"model.diffusion.sampler.levels", "model.diffusion.sampler.scheme=HIERARCHY"}}) {
    const std::vector<OptionDoc> found = document_options(path);
    ASSERT_EQ(found.size(), 1U) << path;
    EXPECT_EQ(found[0].only_with, only_with) << path;
  }
}

TEST(ConfigFile, EveryOptionIsDocumented) {
  for (const OptionDoc& option : document_options()) {
    EXPECT_GE(option.comment.size(), 10U) << option.path << " has no comment in run.proto";
  }
}

}  // namespace
}  // namespace lf
