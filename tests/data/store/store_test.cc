// Reading clips back, and damage met while reading, verifying and repairing; see store.h, verify.h.
#include "data/store/store.h"

#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "data/formats/npy.h"
#include "data/store/export.h"
#include "data/store/merge.h"
#include "data/store/shard.h"
#include "data/store/verify.h"
#include "tests/data/store/store_fixture.h"

namespace lf {
namespace {

class StoreOnDisk : public StoreTest {
 protected:
  static constexpr uint64_t kItems = 18;  // five shards, the last of two
  std::string folder() const { return path("store"); }
  void make(const std::vector<std::string>& sets = {}) { build(folder(), source_, config(sets)); }

  VerifyReport verify() { return verify_store(real_file_system(), folder(), 2); }
  std::vector<std::string> repair(const TinySource& source) {
    return repair_store(real_file_system(), folder(), 2, verify(),
                        [&](const SourceConfig&) { return std::make_unique<TinySource>(source); });
  }

  // The damage must be reported, never read as if valid, and be repaired to the bytes before it.
  void expect_found_and_repaired(const std::string& word,
                                 const std::map<std::string, std::string>& valid) {
    const VerifyReport report = verify();
    ASSERT_FALSE(report.damage.empty());
    std::string all;
    for (const Damage& damage : report.damage) all += damage.name + ": " + damage.reason + "\n";
    EXPECT_NE(all.find(word), std::string::npos) << all;
    repair(source_);
    EXPECT_TRUE(verify().damage.empty());
    auto now = snapshot(folder());
    std::erase_if(now, [](const auto& file) { return file.first.starts_with("/extra/"); });
    EXPECT_EQ(now, valid);
  }

  TinySource source_{kItems};
};

TEST_F(StoreOnDisk, GivesBackImageFramesLabelNameAndSideColumns) {
  make();
  const auto store = Store::open(folder());
  ASSERT_EQ(store->clips(), kItems);
  EXPECT_EQ(store->clip_shape(), (ClipShape{4, 8, 8, 3}));
  for (uint64_t clip = 0; clip < kItems; ++clip) {
    const Sample sample = source_.load(clip);
    const std::vector<uint8_t> bytes = clip_of(*store, clip);
    std::vector<uint8_t> expected(store->recipe().corrupted_bytes());
    store->recipe().apply(sample.pixels.data(), {0, clip, 0}, expected.data());
    expected.insert(expected.end(), sample.pixels.begin(), sample.pixels.end());
    EXPECT_EQ(bytes, expected);
    std::vector<uint8_t> image(store->recipe().clean_bytes());
    store->read(clip, 0, nullptr, image.data());
    EXPECT_EQ(image, sample.pixels);
    EXPECT_EQ(store->label(clip), sample.label);
    EXPECT_EQ(store->name(clip), sample.name);
    EXPECT_EQ(store->side(clip, 0).ints, sample.side[0].ints);
    EXPECT_EQ(store->side(clip, 1).text, sample.side[1].text);
    EXPECT_EQ(store->side(clip, 2).floats, sample.side[2].floats);
  }
}

TEST_F(StoreOnDisk, StoredEqualsRecomputed) {
  for (const char* operation :
       {"recipe.frames=4", "recipe.noise={}", "recipe.mask={}", "recipe.frames=1"}) {
    const std::string stored = path(str("s", operation)), recomputed = path(str("r", operation));
    const bool random = std::string(operation).find("{}") != std::string::npos;
    const std::string draws = random ? "store.draws=3" : "store.draws=1";
    build(stored, source_, config({operation, draws, "store.seed=5"}));
    build(recomputed, source_, config({operation, draws, "store.seed=5", "store.mode=RECOMPUTED"}));
    const auto a = Store::open(stored), b = Store::open(recomputed);
    for (uint64_t clip = 0; clip < kItems; ++clip) {
      for (uint32_t draw = 0; draw < 5; ++draw) {
        EXPECT_EQ(clip_of(*a, clip, draw), clip_of(*b, clip, draw)) << operation << ' ' << clip;
      }
    }
    if (random) {
      EXPECT_NE(clip_of(*a, 0, 0), clip_of(*a, 0, 1));
      EXPECT_EQ(clip_of(*a, 0, 0), clip_of(*a, 0, 3));
    }
  }
}

TEST_F(StoreOnDisk, FreshDrawsNeverRepeat) {
  make({"recipe.noise={}", "store.mode=RECOMPUTED", "store.fresh_draws=true"});
  const auto store = Store::open(folder());
  std::set<std::vector<uint8_t>> seen;
  for (uint32_t draw = 0; draw < 20; ++draw) seen.insert(clip_of(*store, 3, draw));
  EXPECT_EQ(seen.size(), 20U);
}

TEST_F(StoreOnDisk, ManyThreadsAndFewDescriptorsReadTheSame) {
  make();
  const auto all = Store::open(folder()), few = Store::open(folder(), 1);
  std::vector<std::vector<uint8_t>> expected;
  for (uint64_t clip = 0; clip < kItems; ++clip) expected.push_back(clip_of(*all, clip));
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 400; ++i) {
        const uint64_t clip = (i * 7 + t * 5) % kItems;
        if (clip_of(*few, clip) != expected[clip]) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST_F(StoreOnDisk, OpeningLooksAtNoShard) {
  make();
  std::filesystem::remove_all(folder() + "/shards");
  const auto store = Store::open(folder());
  EXPECT_EQ(store->clips(), kItems);
  const std::string message = error_of(Code::kData, [&] { clip_of(*store, 5); });
  EXPECT_NE(message.find("00001.h5 is missing"), std::string::npos) << message;
}

TEST_F(StoreOnDisk, NoStoreAndAnUnfinishedOneAreUsageErrors) {
  error_of(Code::kUsage, [&] { Store::open(path("nowhere")); });
  build(folder(), source_, config(), 0, 2);
  EXPECT_NE(error_of(Code::kUsage, [&] { Store::open(folder()); }).find("not finished"),
            std::string::npos);
}

TEST_F(StoreOnDisk, EveryBitOfAShardIsGuardedWhenRead) {
  source_ = TinySource(2, {1, 4, 4, 1});
  make({"recipe.frames=2"});
  const std::string file = shard_path(folder(), 0), valid = bytes_of_file(file);
  const auto everything = [&] {
    const auto store = Store::open(folder());
    std::vector<uint8_t> all;
    for (uint64_t clip = 0; clip < 2; ++clip) {
      const auto bytes = clip_of(*store, clip);
      all.insert(all.end(), bytes.begin(), bytes.end());
      const std::string rest =
          str(store->label(clip), store->name(clip), store->side(clip, 0).ints[1],
              store->side(clip, 1).text, store->side(clip, 2).floats[0]);
      all.insert(all.end(), rest.begin(), rest.end());
    }
    return all;
  };
  const auto expected = everything();
  uint64_t seen = 0;
  for (size_t at = 0; at < valid.size(); at += 3) {
    std::string flipped = valid;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    overwrite(file, flipped);
    try {
      EXPECT_EQ(everything(), expected) << "byte " << at;  // a bit that reading does not need
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData) << error.what();
      EXPECT_NE(std::string(error.what()).find("00000.h5"), std::string::npos) << error.what();
      ++seen;
    }
    if (at % 60 == 0) {
      EXPECT_FALSE(verify().damage.empty()) << "byte " << at;
    }
  }
  EXPECT_GT(seen, 50U);
}

TEST_F(StoreOnDisk, EveryBitOfIndexAndPlanIsGuarded) {
  make();
  const auto valid = snapshot(folder());
  for (const std::string& file : {index_path(folder()), plan_path(folder())}) {
    const std::string bytes = bytes_of_file(file);
    for (size_t at = 0; at < bytes.size(); at += 5) {
      flip_bit(file, at);
      if (file == index_path(folder())) error_of(Code::kData, [&] { Store::open(folder()); });
      EXPECT_FALSE(verify().damage.empty()) << at;
      overwrite(file, bytes);
    }
    for (const size_t length : {size_t{0}, size_t{7}, bytes.size() / 2, bytes.size() - 1}) {
      overwrite(file, bytes.substr(0, length));
      expect_found_and_repaired(file == index_path(folder()) ? "index" : "plan", valid);
    }
    std::filesystem::remove(file);
    expect_found_and_repaired("missing", valid);
  }
}

TEST_F(StoreOnDisk, DamageIsNamedAndRepaired) {
  make();
  const auto valid = snapshot(folder());
  const std::string one = shard_path(folder(), 1), three = shard_path(folder(), 3);

  flip_bit(one, read_index(real_file_system(), index_path(folder())).shards(1).address(3) + 100);
  const auto store = Store::open(folder());
  EXPECT_NE(error_of(Code::kData, [&] { clip_of(*store, 4); }).find("clip 4"), std::string::npos);
  clip_of(*store, 5);
  expect_found_and_repaired("flipped bits in clip 0", valid);

  std::filesystem::resize_file(one, 3000);
  EXPECT_NE(error_of(Code::kData, [&] { clip_of(*Store::open(folder()), 4); }).find("truncated"),
            std::string::npos);
  expect_found_and_repaired("truncated", valid);

  std::filesystem::remove(three);
  expect_found_and_repaired("00003.h5: it is missing", valid);

  overwrite(folder() + "/shards/00009.h5", bytes_of_file(one));
  overwrite(folder() + "/shards/../shards/notes\n.txt", "hello");
  expect_found_and_repaired("renamed or left over", valid);

  std::filesystem::rename(one, path("tmp"));
  std::filesystem::rename(three, one);
  std::filesystem::rename(path("tmp"), three);
  error_of(Code::kData, [&] { clip_of(*Store::open(folder()), 4); });
  expect_found_and_repaired("swapped or renamed", valid);

  std::filesystem::rename(one, folder() + "/shards/one.h5");
  expect_found_and_repaired("00001.h5: it is missing", valid);

  flip_bit(one, 9);
  expect_found_and_repaired("HDF5 metadata", valid);
  flip_bit(one, bytes_of_file(one).size() - 30);
  expect_found_and_repaired("trailer", valid);

  overwrite(path("outside.h5"), bytes_of_file(one));
  std::filesystem::remove(one);
  std::filesystem::create_symlink(path("outside.h5"), one);
  EXPECT_NE(error_of(Code::kData, [&] { clip_of(*Store::open(folder()), 4); }).find("symbolic"),
            std::string::npos);
  expect_found_and_repaired("leads out", valid);

  std::filesystem::remove_all(folder() + "/shards");
  expect_found_and_repaired("missing", valid);
}

TEST_F(StoreOnDisk, AFifoInPlaceOfAShardDoesNotHang) {
  make();
  std::filesystem::remove(shard_path(folder(), 0));
  ASSERT_EQ(::mkfifo(shard_path(folder(), 0).c_str(), 0600), 0);
  error_of(Code::kData, [&] { clip_of(*Store::open(folder()), 0); });
}

TEST_F(StoreOnDisk, RepairRefusesAChangedSource) {
  make();
  const auto valid = snapshot(folder());
  flip_bit(shard_path(folder(), 2), 9);
  TinySource changed = source_;
  changed.seed = 1;
  EXPECT_NE(error_of(Code::kData, [&] { repair(changed); }).find("other data"), std::string::npos);
  error_of(Code::kData, [&] { repair(TinySource(kItems - 1)); });
  expect_found_and_repaired("00002.h5", valid);
}

TEST_F(StoreOnDisk, HostileIndexesAreRefused) {
  make();
  const StoreIndex good = read_index(real_file_system(), index_path(folder()));
  const auto refuse = [&](const std::function<void(StoreIndex&)>& spoil) {
    StoreIndex index = good;
    spoil(index);
    overwrite(index_path(folder()), encode_index(index));
    error_of(Code::kData, [&] { Store::open(folder()); });
  };
  refuse([](StoreIndex& i) { i.set_format(2); });
  refuse([](StoreIndex& i) { i.set_frames(0); });
  refuse([](StoreIndex& i) { i.set_frames(5); });
  refuse([](StoreIndex& i) { i.set_height(1U << 31); });
  refuse([](StoreIndex& i) { i.set_element_bytes(2); });
  refuse([](StoreIndex& i) { i.set_draws(0); });
  refuse([](StoreIndex& i) { i.clear_parts(); });
  refuse([](StoreIndex& i) { i.clear_shards(); });
  refuse([](StoreIndex& i) { i.mutable_parts(0)->set_items(~uint64_t{0}); });
  refuse([](StoreIndex& i) { i.mutable_parts(0)->set_items_per_shard(0); });
  refuse([](StoreIndex& i) { i.mutable_columns(0)->set_name("../x"); });
  refuse([](StoreIndex& i) { i.mutable_columns(0)->set_width(0); });
  refuse([](StoreIndex& i) { i.mutable_shards(0)->set_clips(1 << 30); });
  refuse([](StoreIndex& i) { i.mutable_shards(0)->set_address(3, 1ULL << 60); });
}

TEST_F(StoreOnDisk, MergedStoresKeepClipsAndCanBeRepaired) {
  TinySource other(7);
  other.seed = 9;
  for (const char* mode : {"STORED", "RECOMPUTED"}) {
    const std::string a = path(str("a", mode)), b = path(str("b", mode)), out = path(mode);
    const std::string set = str("store.mode=", mode);
    build(a, source_, config({"recipe.noise={}", set, "store.seed=1"}));
    build(b, other, config({"recipe.noise={}", set, "store.seed=2", "source.folder.path=b"}));
    EXPECT_EQ(merge_stores(real_file_system(), out, {a, b}, 2), 7U);
    const auto merged = Store::open(out), first = Store::open(a), second = Store::open(b);
    ASSERT_EQ(merged->clips(), first->clips() + second->clips());
    for (uint64_t clip = 0; clip < merged->clips(); ++clip) {
      const bool of_first = clip < first->clips();
      const Store& from = of_first ? *first : *second;
      EXPECT_EQ(clip_of(*merged, clip), clip_of(from, of_first ? clip : clip - first->clips()));
    }
    EXPECT_TRUE(verify_store(real_file_system(), out, 2).damage.empty());
    const auto valid = snapshot(out);
    flip_bit(shard_path(out, 5), 60);
    flip_bit(shard_path(out, 0), 60);
    std::filesystem::remove(index_path(out));
    repair_store(real_file_system(), out, 2, verify_store(real_file_system(), out, 2),
                 [&](const SourceConfig& from) {
                   return std::make_unique<TinySource>(from.has_folder() ? other : source_);
                 });
    EXPECT_EQ(snapshot(out), valid);
  }
}

TEST_F(StoreOnDisk, StoresThatDifferAreNotMerged) {
  build(path("a"), source_, config());
  build(path("b"), source_, config({"recipe.frames=5"}));
  EXPECT_NE(error_of(Code::kUsage,
                     [&] {
                       merge_stores(real_file_system(), path("out"), {path("a"), path("b")}, 1);
                     })
                .find("frames is '4' in one and '5' in the other"),
            std::string::npos);
  error_of(Code::kUsage, [&] {
    merge_stores(real_file_system(), path("out"), {path("a"), path("a")}, 1);
  });
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

TEST_F(StoreOnDisk, ExportsWhatIsStored) {
  make();
  const auto store = Store::open(folder());
  export_npy(real_file_system(), *store, path("a.npy"), 3, 6);
  const std::string bytes = bytes_of_file(path("a.npy"));
  const NpyHeader header = parse_npy_header(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, bytes.size(), "a.npy");
  EXPECT_EQ(header.shape, (std::vector<uint64_t>{3, 4, 8, 8, 3}));
  std::string expected;
  for (uint64_t clip = 3; clip < 6; ++clip) {
    const auto clip_bytes = clip_of(*store, clip);
    expected.append(clip_bytes.begin(), clip_bytes.end());
  }
  EXPECT_EQ(bytes.substr(header.data_offset), expected);
  export_png(real_file_system(), *store, path("png"), 0, 2);
  const std::string png = bytes_of_file(path("png/clip-000000001/frame-003.png"));
  const Image image = decode_image({reinterpret_cast<const uint8_t*>(png.data()), png.size()},
                                   ImageLimits{}, "png");
  EXPECT_EQ(image.pixels, source_.load(1).pixels);
  error_of(Code::kUsage,
           [&] { export_npy(real_file_system(), *store, path("b.npy"), 3, kItems + 1); });
}

TEST_F(StoreOnDisk, FramesOfNoiseAreShownAsGreyLevels) {
  make({"recipe.noise={}"});
  const auto store = Store::open(folder());
  const std::vector<Image> frames = clip_frames(*store, 2);
  ASSERT_EQ(frames.size(), 4U);
  EXPECT_EQ(frames[3].pixels, source_.load(2).pixels);
  std::vector<float> exact(3 * 192), image(frames[3].pixels.begin(), frames[3].pixels.end());
  store->recipe().apply_exact(image.data(), {0, 2, 0}, exact.data());
  for (size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(frames[i / 192].pixels[i % 192], std::clamp(exact[i], 0.F, 255.F), 0.7);
  }
}

}  // namespace
}  // namespace lf
