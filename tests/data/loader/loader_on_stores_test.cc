// The loader on real stores, built, opened and read as a run does, and on the index of a store far
// too large to build.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "config/config.h"
#include "data/loader/loader.h"
#include "data/store/build.h"
#include "data/store/cost.h"
#include "data/store/layout.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kClips = 60;

class Loading : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/loading-" + std::to_string(::getpid()) + "-" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static Config config_of(std::vector<std::string> sets) {
    sets.insert(sets.begin(),
                {"source.generated.kind=shapes", str("source.generated.count=", kClips),
                 "recipe.frames=4", "store.clips_per_shard=16"});
    return load_config("", sets);
  }

  std::string build(const std::string& name, const std::vector<std::string>& sets = {}) {
    BuildRequest request;
    request.config = config_of(sets);
    const auto source = open_source(request.config.source());
    request.source = source.get();
    request.folder = folder_ + "/" + name;
    EXPECT_TRUE(build_store(request).complete);
    return request.folder;
  }

  static std::vector<uint8_t> load(const std::string& store, ReadMode mode, int threads) {
    LoaderConfig options;
    options.set_threads(threads);
    options.set_flip(0.5);
    Loader loader(Store::open(store, 0, mode), options, {.seed = 3, .batch = 8});
    std::vector<uint8_t> bytes;
    for (int step = 0; step < 20; ++step) {
      const Batch batch = loader.next();
      bytes.insert(bytes.end(), batch.frames, batch.frames + batch.layout.bytes);
    }
    return bytes;
  }

  std::string folder_;
};

uint64_t bytes_below(const std::string& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

TEST_F(Loading, StoredRecomputedPreadAndMmapGiveTheSameBatches) {
  const std::string stored = build("stored"), again = build("again", {"store.mode=RECOMPUTED"});
  const std::vector<uint8_t> expected = load(stored, PREAD, 0);
  EXPECT_EQ(load(stored, PREAD, 2), expected);
  EXPECT_EQ(load(stored, MMAP, 2), expected);
  EXPECT_EQ(load(again, PREAD, 2), expected);
  EXPECT_EQ(load(again, MMAP, 1), expected);
}

TEST_F(Loading, FloatFramesAreTheSameStoredAndRecomputed) {
  const std::string stored = build("stored", {"recipe.noise={}"});
  const std::string again = build("again", {"recipe.noise={}", "store.mode=RECOMPUTED"});
  EXPECT_EQ(load(stored, PREAD, 1), load(again, MMAP, 2));
}

TEST_F(Loading, FreshDrawsChangeWithTheEpochAndKeepTheImage) {
  const std::string store =
      build("fresh", {"recipe.noise={}", "store.mode=RECOMPUTED", "store.fresh_draws=true"});
  LoaderConfig options;
  options.set_shuffle(false);
  Loader loader(Store::open(store), options, {.batch = kClips});
  const Batch first = loader.next(), second = loader.next();
  const BatchLayout& layout = first.layout;
  EXPECT_EQ(second.clips[5].draw, 1U);
  for (size_t k = 0; k < kClips; ++k) {
    EXPECT_TRUE(std::equal(
        first.frames + layout.clean_offset + k * layout.clean_stride,
        first.frames + layout.clean_offset + k * layout.clean_stride + layout.clean_bytes,
        second.frames + layout.clean_offset + k * layout.clean_stride));
    EXPECT_FALSE(std::equal(first.frames + k * layout.corrupted_stride,
                            first.frames + (k + 1) * layout.corrupted_stride,
                            second.frames + k * layout.corrupted_stride));
  }
}

TEST_F(Loading, AFlippedBitIsNamedAndMayBeSkipped) {
  const std::string folder = build("flipped");
  const auto whole = Store::open(folder);
  const Layout layout(whole->index());
  const uint64_t at = whole->index().shards(1).address(static_cast<int>(layout.frames_dataset())) +
                      layout.frames_offset(3, 0) + 100;
  {
    std::fstream file(folder + "/shards/00001.h5", std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(byte ^ 4));
  }
  const uint64_t bad = whole->first_clip(1) + 3;
  for (const ReadMode mode : {PREAD, MMAP}) {
    LoaderConfig options;
    Loader strict(Store::open(folder, 0, mode), options, {.batch = 10});
    try {
      for (int step = 0; step < 6; ++step) strict.next();
      ADD_FAILURE() << "an epoch was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData);
      EXPECT_NE(std::string(error.what()).find("00001.h5"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(str("clip ", bad)), std::string::npos);
    }
    options.set_bad_clip(LoaderConfig::SKIP);
    Loader lenient(Store::open(folder, 0, mode), options, {.batch = 10});
    for (int step = 0; step < 12; ++step) lenient.next();
    EXPECT_GE(lenient.counts().skipped, 2U);
  }
}

TEST_F(Loading, AShardCutShortIsNamedInBothModes) {
  const std::string folder = build("short");
  fs::resize_file(folder + "/shards/00002.h5", 5000);
  for (const ReadMode mode : {PREAD, MMAP}) {
    Loader loader(Store::open(folder, 0, mode), LoaderConfig(), {.batch = 60});
    try {
      loader.next();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData);
      EXPECT_NE(std::string(error.what()).find("00002.h5"), std::string::npos) << error.what();
    }
  }
}

TEST_F(Loading, TheEstimatedSizeIsThatOfTheStore) {
  const auto source = open_source(config_of({}).source());
  for (const char* recipe : {"recipe.blur={}", "recipe.noise={}"}) {
    const CostEstimate estimate = estimate_cost(config_of({recipe}), *source, 0.02);
    ASSERT_TRUE(estimate.recomputed.has_value());
    const auto stored = static_cast<double>(bytes_below(build("s", {recipe}) + "/shards"));
    const auto images =
        static_cast<double>(bytes_below(build("r", {recipe, "store.mode=RECOMPUTED"}) + "/shards"));
    EXPECT_NEAR(static_cast<double>(estimate.stored.bytes), stored, 0.01 * stored) << recipe;
    EXPECT_NEAR(static_cast<double>(estimate.recomputed->bytes), images, 0.01 * images) << recipe;
    EXPECT_EQ(estimate.stored.shards, 4U);
    EXPECT_EQ(estimate.recomputed->read_bytes, 32U * 32 * 3);
    EXPECT_GT(estimate.stored.build_core_seconds, estimate.recomputed->build_core_seconds * 0.5);
    EXPECT_GT(estimate.recomputed->read_core_seconds, 0);
    EXPECT_EQ(estimate.stored.read_core_seconds, 0);
    fs::remove_all(folder_ + "/s");
    fs::remove_all(folder_ + "/r");
  }
}

// Resident memory of this process in bytes.
uint64_t resident() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total = 0, pages = 0;
  statm >> total >> pages;
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// In a process of its own, so that the memory it needs is not counted here.
void write_elsewhere(const std::function<void()>& write) {
  const pid_t child = ::fork();
  if (child == 0) {
    write();
    ::_exit(0);
  }
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
}

// The index of a store of 1e5 shards of 1e3 clips, without any shard.
void write_simulated_index(const Config& config, const std::string& folder) {
  const auto source = open_source(config.source());
  StoreIndex index = plan_store(config, *source);
  const uint64_t shards = index.parts(0).shards(), clips = index.parts(0).items_per_shard();
  const Layout layout(index);
  for (uint64_t s = 0; s < shards; ++s) {
    ShardRecord* record = index.add_shards();
    record->set_clips(clips);
    record->set_first_item(s * clips);
    record->set_metadata_crc(static_cast<uint32_t>(s * 2654435761U));
    record->set_table_crc(static_cast<uint32_t>(s * 40503U));
    for (size_t t = 0; t < layout.texts(); ++t) record->add_text_bytes(20 * clips);
    uint64_t at = 2048;
    for (size_t d = 0; d < layout.datasets().size(); ++d) {
      record->add_address(at);
      at += layout.bytes(d, *record);
    }
    record->set_bytes(at + 500);
  }
  fs::create_directories(shards_folder(folder));
  const std::string bytes = encode_index(index);
  std::ofstream(index_path(folder), std::ios::binary) << bytes;
}

TEST_F(Loading, AHundredMillionClipsInAHundredThousandShardsOpenAtOnce) {
  const std::string folder = folder_ + "/huge";
  write_elsewhere([&] {
    write_simulated_index(
        config_of({"source.generated.count=100000000", "store.clips_per_shard=1000"}), folder);
  });
  const uint64_t before = resident();
  const auto begin = std::chrono::steady_clock::now();
  const auto store = Store::open(folder);
  LoaderConfig options;
  options.set_threads(1);
  Loader loader(store, options, {.seed = 1, .batch = 64});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const uint64_t grown = resident() - std::min(before, resident());
  RecordProperty("open_ms", static_cast<int>(1000 * took.count()));
  RecordProperty("grown_mib", static_cast<int>(grown >> 20));
  EXPECT_EQ(store->clips(), 100'000'000U);
  EXPECT_EQ(store->index().shards_size(), 100'000);
  // Any position of any epoch, without a table of clips.
  loader.seek(uint64_t{3'000'000'000'000});
  std::vector<OrderEntry> entries(1000);
  loader.order().fill(2'999'999'500, entries);
  EXPECT_EQ(entries[499].epoch, 29U);
  EXPECT_EQ(entries[500].epoch, 30U);
  try {
    loader.next();
    ADD_FAILURE() << "there is no shard to read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kData);
    EXPECT_NE(std::string(error.what()).find("is missing"), std::string::npos) << error.what();
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(took.count(), 2.0);
  EXPECT_LT(grown, uint64_t{200} << 20);
#endif
}

}  // namespace
}  // namespace lf
