// Frames made by the GPU's kernels are the host's to the bit: the plugin's kernels, run on the host
// thread by thread (tests/kernels/emulation), against the loader's own frames.
#include "run/device_frames.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "data/store/build.h"
#include "data/store/store.h"
#include "kernels/dispatch.h"
#include "run/clips.h"
#include "tests/data/store/store_fixture.h"
#include "tests/kernels/emulation/emulated_operations.h"

namespace lf {
namespace {

constexpr KernelChoice kOnGpu{Form::kFused, true};

class DeviceFramesTest : public StoreTest {
 protected:
  void SetUp() override { use_device(&emulated_device()); }
  void TearDown() override { use_device(nullptr); }

  std::shared_ptr<const Store> store_of(const std::string& name, std::vector<std::string> sets) {
    sets.insert(sets.begin(), {"source.generated.kind=shapes", "source.generated.count=7",
                               "store.mode=RECOMPUTED"});
    const Config all = config(sets);
    const auto source = open_source(all.source());
    build(path(name), *source, all);
    return Store::open(path(name));
  }
};

struct RecipeCase {
  const char* name;
  std::vector<std::string> sets;
};

const RecipeCase kCases[] = {
    {"blur", {"source.size=16", "recipe.frames=5"}},
    {"odd", {"source.size=13", "recipe.frames=3", "recipe.blur.sigmas=0.6,9", "source.channels=1"}},
    {"window",
     {"source.size=12", "recipe.frames=6", "recipe.blur.noise=0.02", "recipe.topology=WINDOW",
      "recipe.window=3", "store.fresh_draws=true"}},
    {"star",
     {"source.size=16", "recipe.frames=4", "recipe.noise={}", "recipe.topology=STAR",
      "store.draws=2"}},
    {"full",
     {"source.size=9", "recipe.frames=5", "recipe.noise={ kind: VE }", "recipe.topology=FULL",
      "store.fresh_draws=true"}},
};

TEST_F(DeviceFramesTest, AreTheHostsToTheBit) {
  for (const RecipeCase& one : kCases) {
    const auto store = store_of(one.name, one.sets);
    const auto frames = DeviceFrames::of(store, at::kCPU, kOnGpu);
    ASSERT_NE(frames, nullptr) << one.name;
    const LoaderConfig mirrored = load_config("", {"loader.flip=0.5"}).loader();
    LoaderShare share;
    share.seed = 3;
    share.batch = 5;
    Loader host(store, mirrored, share);
    share.last_frames = true;
    Loader images(store, mirrored, share);
    bool flipped = false;
    for (int batch = 0; batch < 4; ++batch) {  // nearly three epochs, so several draws
      const Batch whole = host.next(), last = images.next();
      for (const OrderEntry& entry : last.clips) flipped = flipped || entry.flip;
      const at::Tensor expected = clips_from_batch(whole, 1, at::kCPU).x_BTHWC,
                       found = clips_from_batch(last, 1, at::kCPU, frames.get()).x_BTHWC;
      EXPECT_TRUE(at::equal(found, expected))
          << one.name << " " << (found - expected).abs().max().item<float>();
    }
    EXPECT_TRUE(flipped) << one.name;
  }
}

TEST_F(DeviceFramesTest, AreLeftToTheHostWhereTheyAreMoreThanSumsBlurAndNoise) {
  const auto left = [&](const std::string& name, std::vector<std::string> sets,
                        const KernelChoice& kernels = kOnGpu) {
    sets.push_back("source.size=16");
    return DeviceFrames::of(store_of(name, std::move(sets)), at::kCPU, kernels) == nullptr;
  };
  EXPECT_TRUE(left("heat", {"recipe.heat={}"}));
  EXPECT_TRUE(left("mask", {"recipe.mask={}"}));
  EXPECT_TRUE(left("direction", {"recipe.blur.random_direction=true", "recipe.topology=STAR"}));
  EXPECT_TRUE(left("stored", {"store.mode=STORED"}));
  EXPECT_TRUE(left("plain", {}, {Form::kReference, true}));
  EXPECT_TRUE(left("unasked", {}, {Form::kFused, false}));
}

}  // namespace
}  // namespace lf
