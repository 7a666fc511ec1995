// Building a store gives the same bytes with any number of ranks and after any interruption.
#include "data/store/build.h"

#include <atomic>
#include <thread>

#include "base/faulty_file.h"
#include "base/parallel.h"
#include "data/store/identity.h"
#include "data/store/shard.h"
#include "data/store/verify.h"
#include "tests/data/store/store_fixture.h"

namespace lf {
namespace {

// The real file system, with a hook before it first lists a folder.
class Interleaved : public FileSystem {
 public:
  explicit Interleaved(std::function<void()> meanwhile) : meanwhile_(std::move(meanwhile)) {}
  std::unique_ptr<OutFile> create(const std::string& path) override { return real_.create(path); }
  std::unique_ptr<OutFile> create_new(const std::string& path) override {
    return real_.create_new(path);
  }
  std::unique_ptr<InFile> open_read(const std::string& path) override {
    return real_.open_read(path);
  }
  std::unique_ptr<LockFile> open_lock(const std::string& path) override {
    return real_.open_lock(path);
  }
  void rename(const std::string& from, const std::string& to) override { real_.rename(from, to); }
  void remove(const std::string& path) override { real_.remove(path); }
  void remove_tree(const std::string& path) override { real_.remove_tree(path); }
  void make_folders(const std::string& path) override { real_.make_folders(path); }
  void sync_folder(const std::string& path) override { real_.sync_folder(path); }
  bool info(const std::string& path, FileInfo* info) override { return real_.info(path, info); }
  std::vector<std::string> list(const std::string& folder) override {
    if (meanwhile_) std::exchange(meanwhile_, {})();
    return real_.list(folder);
  }

 private:
  FileSystem& real_ = real_file_system();
  std::function<void()> meanwhile_;
};

class Build : public StoreTest {
 protected:
  TinySource source_{23};
  int refusals_ = 0;
};

TEST_F(Build, BytesDoNotDependOnRanksOrThreads) {
  source_.bad = {0, 5, 6, 7, 22};
  build(path("one"), source_, config(), 0, 1, nullptr, 1);
  for (int size = 2; size <= 3; ++size) {
    const std::string folder = path(str(size));
    for (int rank = size; rank-- > 0;) {
      const BuildResult result = build(folder, source_, config(), rank, size, nullptr, 3);
      EXPECT_EQ(result.complete, rank == 0);
    }
    EXPECT_EQ(snapshot(folder), snapshot(path("one")));
  }
  const auto store = Store::open(path("one"));
  EXPECT_EQ(store->clips(), 18U);
  EXPECT_EQ(store->name(0), source_.name_of(1));
  EXPECT_EQ(store->name(4), source_.name_of(8));
}

TEST_F(Build, MoreRanksThanShardsIsFine) {
  build(path("one"), source_, config());
  for (int rank = 0; rank < 9; ++rank) build(path("nine"), source_, config(), rank, 9);
  EXPECT_EQ(snapshot(path("nine")), snapshot(path("one")));
}

TEST_F(Build, RanksAtOnceFinishOnce) {
  build(path("one"), source_, config());
  for (int round = 0; round < 5; ++round) {
    const std::string folder = path(str("at-once", round));
    std::atomic<int> complete = 0;
    run_parallel(4, 4, [&](uint64_t rank) {
      if (build(folder, source_, config(), static_cast<int>(rank), 4).complete) ++complete;
    });
    EXPECT_GE(complete, 1);
    EXPECT_EQ(snapshot(folder), snapshot(path("one")));
  }
}

// Between a rank's look for the plan and its look at the folder, another rank may have published
// the plan and all its shards.
TEST_F(Build, AMuchQuickerRankIsNotTakenForAForeignStore) {
  build(path("one"), source_, config());
  std::filesystem::create_directories(path("two"));
  Interleaved files([&] { build(path("two"), source_, config(), 1, 2); });
  EXPECT_TRUE(build(path("two"), source_, config(), 0, 2, &files).complete);
  EXPECT_EQ(snapshot(path("two")), snapshot(path("one")));
}

// A rank that comes back late looks for its leftovers while another finishes the store and tidies
// up.
TEST_F(Build, ARankThatFinishesMeanwhileMayTidyUp) {
  build(path("one"), source_, config());
  build(path("two"), source_, config(), 0, 2);
  Interleaved files([&] { EXPECT_TRUE(build(path("two"), source_, config(), 1, 2).complete); });
  EXPECT_TRUE(build(path("two"), source_, config(), 0, 2, &files).complete);
  EXPECT_EQ(snapshot(path("two")), snapshot(path("one")));
}

TEST_F(Build, AFolderMayBeRemovedWhileItIsMade) {
  std::atomic<bool> done = false;
  std::jthread other([&] {
    std::error_code ignored;
    while (!done) std::filesystem::remove(path("there/building"), ignored);
  });
  for (int i = 0; i < 20000; ++i) {
    EXPECT_NO_THROW(real_file_system().make_folders(path("there/building")));
  }
  done = true;
}

TEST_F(Build, BadItemsAreListedWithTheirReasons) {
  source_.bad = {3, 4, 5, 6, 7, 9};
  build(path("a"), source_, config());
  const std::string list = bytes_of_file(path("a/quarantine.txt"));
  EXPECT_NE(list.find("9\titem 9\\x0a\tit is cut off\n"), std::string::npos) << list;
  EXPECT_EQ(Store::open(path("a"))->clips(), 17U);
  EXPECT_TRUE(verify_store(real_file_system(), path("a"), 1).damage.empty());
}

TEST_F(Build, StrictEndsAtTheFirstBadItem) {
  source_.bad = {9};
  EXPECT_NE(error_of(Code::kData, [&] { build(path("a"), source_, config({"store.strict=true"})); })
                .find("item 9"),
            std::string::npos);
  build(path("a"), source_, config());
  error_of(Code::kData, [&] { build(path("a"), source_, config({"store.strict=true"})); });
}

TEST_F(Build, NothingUsableIsAnError) {
  for (uint64_t i = 0; i < 23; ++i) source_.bad.insert(i);
  EXPECT_NE(error_of(Code::kData, [&] { build(path("a"), source_, config()); }).find("cut off"),
            std::string::npos);
}

TEST_F(Build, AnotherStoreInTheFolderIsNamedWithItsDifferences) {
  build(path("a"), source_, config());
  const auto before = snapshot(path("a"));
  EXPECT_NE(error_of(Code::kUsage, [&] { build(path("a"), source_, config({"recipe.frames=6"})); })
                .find("recipe.frames: 4 -> 6"),
            std::string::npos);
  EXPECT_NE(error_of(Code::kUsage, [&] { build(path("a"), TinySource(22), config()); })
                .find("items of the source: 23 -> 22"),
            std::string::npos);
  EXPECT_EQ(snapshot(path("a")), before);
  std::filesystem::create_directories(path("photos"));
  overwrite(path("photos/me.jpg"), "x");
  EXPECT_NE(
      error_of(Code::kUsage, [&] { build(path("photos"), source_, config()); }).find("me.jpg"),
      std::string::npos);
}

// The true difference alone, whatever the options are called.
TEST_F(Build, OnlyTheDifferenceOfAnotherStoreIsNamed) {
  const auto refusal = [&](std::vector<std::string> there, std::vector<std::string> now) {
    const std::string folder = path(str("difference-", refusals_++));
    build(folder, source_, config(std::move(there)));
    const std::string message =
        error_of(Code::kUsage, [&] { build(folder, source_, config(std::move(now))); });
    return message.substr(message.find("It differs in: "));
  };
  EXPECT_EQ(refusal({"recipe.noise={}"}, {"recipe.noise={}", "store.seed=3"}),
            "It differs in: store.seed: 0 -> 3");
  EXPECT_EQ(refusal({"recipe.noise={}"}, {"recipe.noise={}", "store.draws=2"}),
            "It differs in: store.draws: 1 -> 2");
  EXPECT_EQ(refusal({}, {"recipe.blur.ratio=2"}), "It differs in: recipe.blur.ratio: 3 -> 2");
  EXPECT_EQ(refusal({"source.folder.path=a/"}, {"source.folder.path=b"}),
            "It differs in: source.folder.path: \"a\" -> \"b\"");
}

TEST_F(Build, TheSameOptionsInOtherWordsAreTheSameStore) {
  const std::vector<std::string> few = {"source.folder.path=photos", "source.size=8"};
  const std::vector<std::string> many = {"source.folder.path=./photos/",
                                         "source.size=8",
                                         "source.width=8",
                                         "source.channels=3",
                                         "source.crop={}",
                                         "recipe.blur={ratio: 3}",
                                         "recipe.topology=CHAIN",
                                         "store.draws=1"};
  const StoreIndex plan = plan_store(config(few), source_);
  EXPECT_EQ(plan.SerializeAsString(), plan_store(config(many), source_).SerializeAsString());
  EXPECT_NE(plan.store_id(), plan_store(config({"source.folder.path=photos"}), source_).store_id());
  const StoreIndex image = plan_store(config({"recipe.frames=1"}), source_);  // corrupts nothing
  Config noisy = config({"recipe.frames=1"});
  noisy.mutable_recipe()->mutable_noise();
  EXPECT_EQ(image.store_id(), plan_store(noisy, source_).store_id());
}

TEST_F(Build, WhatAConfigSetsOtherwiseThanAStoreIsNamed) {
  const auto said_of = [](const Config& asked, const StoreIndex& store) {
    std::string text;
    for (const Contradiction& one : contradictions(asked, store)) {
      text += str(one.path, " ", one.asked, " ", one.held, ";");
    }
    return text;
  };
  const auto said = [&](const std::vector<std::string>& sets, const StoreIndex& store) {
    return said_of(load_config("", sets), store);
  };
  const StoreIndex store = plan_store(
      config({"source.folder.path=photos/", "recipe.blur.sigmas=1,2,3", "store.seed=4"}), source_);
  for (const char* set : {"recipe.frames=4", "recipe={}", "source.size=0", "source.size=8",
                          "source.folder.path=./photos",
                          "recipe={frames: 4 blur {sigmas: [1, 2, 3]}}", "store.shard_mib=2"}) {
    EXPECT_EQ(said({set}, store), "") << set;
  }
  EXPECT_EQ(said({"source.cifar={}"}, store), "source.cifar set source.folder;");
  EXPECT_EQ(said({"source.size=8", "source.width=16", "store.seed=0"}, store),
            "source.width 16 8;store.seed 0 4;");
  EXPECT_EQ(said({"recipe.blur.sigmas=1,2"}, store), "recipe.blur.sigmas [1, 2] [1, 2, 3];");
  // The same frames in other words, and what a printed config says of videos.
  const StoreIndex image = plan_store(config({"recipe.frames=1"}), source_);
  EXPECT_EQ(said_of(parse_config("recipe { frames: 1 noise {} }", "file"), image), "");
  const StoreIndex videos = plan_store(load_config("", {}), TinySource(3, {5, 8, 8, 3}));
  EXPECT_EQ(said({"recipe={frames: 8 topology: CHAIN window: 2}"}, videos), "");
  EXPECT_EQ(said({"recipe.frames=4"}, videos), "recipe.frames 4 5;");
}

// Older programs hashed the options as they were written.
TEST_F(Build, ABuildThatAnOlderProgramBeganGoesOnUnderItsId) {
  StoreIndex old = plan_store(config(), source_);
  const StoreIndex now = old;
  for (RecipeConfig* recipe : {old.mutable_recipe(), old.mutable_parts(0)->mutable_recipe()}) {
    recipe->Clear();
    recipe->set_frames(4);
  }
  old.mutable_parts(0)->mutable_source()->Clear();
  old.set_store_id("0123456789abcdef");
  old.mutable_parts(0)->set_store_id(old.store_id());
  std::filesystem::create_directories(path("a/building"));
  overwrite(plan_path(path("a")), encode_index(old));
  EXPECT_TRUE(build(path("a"), source_, config({"recipe.blur={}"}), 0, 2).built > 0);
  EXPECT_TRUE(build(path("a"), source_, config(), 1, 2).complete);
  EXPECT_EQ(Store::open(path("a"))->index().store_id(), old.store_id());
  EXPECT_EQ(build(path("a"), source_, config()).kept, 6U);
  EXPECT_NE(now.store_id(), old.store_id());
}

TEST_F(Build, AgainKeepsWhatIsFinishedAndMakesWhatIsNot) {
  build(path("a"), source_, config());
  const auto valid = snapshot(path("a"));
  EXPECT_EQ(build(path("a"), source_, config()).kept, 6U);
  std::filesystem::remove(path("a/shards/00002.h5"));
  flip_bit(path("a/shards/00004.h5"), 50);
  std::filesystem::remove(path("a/index"));
  const BuildResult result = build(path("a"), source_, config({"store.threads=3"}));
  EXPECT_EQ(result.kept, 4U);
  EXPECT_EQ(result.built, 2U);
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(snapshot(path("a")), valid);
}

TEST_F(Build, ProgressAddsUpToEverything) {
  BuildRequest request;
  request.config = config();
  request.source = &source_;
  request.folder = path("a");
  BuildProgress last;
  request.on_progress = [&](const BuildProgress& progress) { last = progress; };
  build_store(request);
  EXPECT_EQ(last.items, 23U);
  EXPECT_EQ(last.kept, 0U);
  EXPECT_EQ(last.total, 23U);
  std::filesystem::remove(path("a/index"));
  build_store(request);
  EXPECT_EQ(last.items, 23U);
  EXPECT_EQ(last.kept, 23U) << "a rate would be of nothing that is made now";
}

TEST_F(Build, ConfigsThatMakeNoSenseAreRefused) {
  error_of(Code::kUsage, [&] { plan_store(config({"store.fresh_draws=true"}), source_); });
  error_of(Code::kUsage, [&] {
    plan_store(config({"store.fresh_draws=true", "store.mode=RECOMPUTED"}), source_);
  });
  error_of(Code::kUsage, [&] { plan_store(config(), TinySource(0)); });
  error_of(Code::kUsage, [&] {
    plan_store(config({"store.mode=RECOMPUTED"}), TinySource(3, {4, 8, 8, 3}));
  });
}

TEST_F(Build, FaceSetsOf1024PixelsFitAndLargerFramesAreRefused) {
  EXPECT_EQ(plan_store(config(), TinySource(3, {1, 1024, 1024, 3})).height(), 1024U);
  const std::string refused = error_of(Code::kUsage, [&] {
    plan_store(config(), TinySource(3, {1, 8192, 8192, 3}));
  });
  EXPECT_NE(refused.find("source.size"), std::string::npos) << refused;
}

TEST_F(Build, ShardsAreAboutAsLargeAsAskedFor) {
  const TinySource large(100000, {1, 32, 32, 3});
  const StoreIndex plan = plan_store(load_config("", {"store.shard_mib=4"}), large);
  const double clip = 8 * 3072 + 100;
  EXPECT_NEAR(static_cast<double>(plan.parts(0).items_per_shard()), 4 * 1048576 / clip, 2);
}

// Power fails, or the device does, at every single operation of a build; then it is run again.
TEST_F(Build, EveryInterruptionIsRecoveredFrom) {
  source_ = TinySource(7);
  source_.bad = {2};
  build(path("valid"), source_, config());
  const auto valid = snapshot(path("valid"));
  uint64_t operations = 0;
  {
    FaultyFileSystem files([](const FileOperation&) { return true; });
    build(path("count"), source_, config(), 0, 1, &files, 1);
    operations = files.operations();
  }
  ASSERT_GT(operations, 15U);
  for (uint64_t at = 0; at < operations; ++at) {
    const std::string cut = path(str("cut", at)), error = path(str("error", at));
    FaultyFileSystem dying([&](const FileOperation& operation) { return operation.number != at; });
    EXPECT_THROW(build(cut, source_, config(), 0, 1, &dying, 1), FaultyFileSystem::PowerCut) << at;
    dying.power_cut();
    if (std::filesystem::exists(cut + "/index")) {
      EXPECT_TRUE(verify_store(real_file_system(), cut, 1).damage.empty()) << at;
    }
    EXPECT_TRUE(build(cut, source_, config()).complete);
    EXPECT_EQ(snapshot(cut), valid) << "power cut before operation " << at;

    FaultyFileSystem failing([&](const FileOperation& operation) {
      if (operation.number == at) {
        fail(Code::kStorage, "cannot ", operation.kind, " ", operation.path, ": disk full");
      }
      return true;
    });
    try {
      build(error, source_, config(), 0, 1, &failing, 1);
    } catch (const Error& failure) {
      EXPECT_EQ(failure.code(), Code::kStorage) << at << ": " << failure.what();
    }
    EXPECT_TRUE(build(error, source_, config()).complete);
    EXPECT_EQ(snapshot(error), valid) << "error in operation " << at;
  }
}

}  // namespace
}  // namespace lf
