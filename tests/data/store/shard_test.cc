// A shard's bytes, read back by the HDF5 library and by our own trailer; see shard.h.
#include "data/store/shard.h"

#include <hdf5.h>

#include "base/crc32c.h"
#include "tests/data/store/store_fixture.h"

namespace lf {
namespace {

class Shard : public StoreTest {
 protected:
  std::string one_shard(const std::vector<std::string>& sets, const TinySource& source) {
    const StoreIndex plan = plan_store(config(sets), source);
    std::atomic<uint64_t> done = 0;
    return make_shard(plan, source, 0, false, done);
  }
};

template <typename T>
std::vector<T> read_dataset(hid_t file, const char* name, hid_t type,
                            std::vector<hsize_t> expected) {
  const hid_t data = H5Dopen2(file, name, H5P_DEFAULT);
  EXPECT_GE(data, 0) << name;
  const hid_t space = H5Dget_space(data);
  std::vector<hsize_t> extents(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  EXPECT_EQ(extents, expected) << name;
  std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
  EXPECT_GE(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0) << name;
  H5Sclose(space);
  H5Dclose(data);
  return values;
}

TEST_F(Shard, IsAnHdf5FileLikeAnyOther) {
  const TinySource source(4);
  overwrite(path("a.h5"), one_shard({}, source));
  const hid_t file = H5Fopen(path("a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const auto frames = read_dataset<uint8_t>(file, "frames", H5T_NATIVE_UINT8, {4, 4, 8, 8, 3});
  const Recipe recipe(config().recipe(), source.shape());
  for (uint64_t i = 0; i < 4; ++i) {
    const Sample sample = source.load(i);
    std::vector<uint8_t> clip(recipe.corrupted_bytes());
    recipe.apply(sample.pixels.data(), {0, i, 0}, clip.data());
    clip.insert(clip.end(), sample.pixels.begin(), sample.pixels.end());
    EXPECT_EQ(std::vector<uint8_t>(frames.begin() + static_cast<int64_t>(i * clip.size()),
                                   frames.begin() + static_cast<int64_t>((i + 1) * clip.size())),
              clip);
  }
  EXPECT_EQ(read_dataset<int64_t>(file, "labels", H5T_NATIVE_INT64, {4}),
            (std::vector<int64_t>{0, 1, 2, 0}));
  EXPECT_EQ(read_dataset<uint64_t>(file, "items", H5T_NATIVE_UINT64, {4}),
            (std::vector<uint64_t>{0, 1, 2, 3}));
  EXPECT_EQ(read_dataset<int64_t>(file, "side.position", H5T_NATIVE_INT64, {4, 2}),
            (std::vector<int64_t>{0, 0, 1, -1, 2, -2, 3, -3}));
  EXPECT_EQ(read_dataset<uint64_t>(file, "side.caption.offsets", H5T_NATIVE_UINT64, {5}),
            (std::vector<uint64_t>{0, 0, 1, 3, 6}));
  const auto crc = read_dataset<uint32_t>(file, "crc", H5T_NATIVE_UINT32, {4, 6});
  const Sample second = source.load(1);
  EXPECT_EQ(crc[6], crc32c_portable(second.pixels.data(), second.pixels.size()));
  EXPECT_EQ(H5Aexists(file, "recipe"), 1);
  H5Fclose(file);
}

TEST_F(Shard, NoiseIsFloat16WithTheImageBesideIt) {
  const TinySource source(3);
  overwrite(path("a.h5"), one_shard({"recipe.noise={}"}, source));
  const hid_t file = H5Fopen(path("a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const auto frames = read_dataset<float>(file, "frames", H5T_NATIVE_FLOAT, {3, 3, 8, 8, 3});
  const auto images = read_dataset<uint8_t>(file, "images", H5T_NATIVE_UINT8, {3, 8, 8, 3});
  EXPECT_EQ(std::vector<uint8_t>(images.begin(), images.begin() + 192), source.load(0).pixels);
  double mean = 0;
  for (const float x : frames) mean += std::abs(x) / static_cast<double>(frames.size());
  EXPECT_GT(mean, 0.1);
  EXPECT_LT(mean, 2);
  H5Fclose(file);
}

TEST_F(Shard, AddressesAreThoseHdf5Knows) {
  const TinySource source(4);
  const std::string bytes = one_shard({"recipe.noise={}", "store.draws=2"}, source);
  overwrite(path("a.h5"), bytes);
  const StoreIndex plan = plan_store(config({"recipe.noise={}", "store.draws=2"}), source);
  const Layout layout(plan);
  const auto trailer = read_trailer(*real_file_system().open_read(path("a.h5")), "a.h5");
  const hid_t file = H5Fopen(path("a.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  for (size_t d = 0; d < layout.datasets().size(); ++d) {
    const hid_t data = H5Dopen2(file, layout.datasets()[d].name.c_str(), H5P_DEFAULT);
    ASSERT_GE(data, 0) << layout.datasets()[d].name;
    EXPECT_EQ(H5Dget_offset(data), trailer.record().address(static_cast<int>(d)));
    EXPECT_EQ(H5Dget_storage_size(data), layout.bytes(d, trailer.record()));
    H5Dclose(data);
  }
  H5Fclose(file);
}

TEST_F(Shard, HoldsLittleMoreThanItsClips) {
  const TinySource source(4);
  EXPECT_LT(one_shard({}, source).size(), 4 * 4 * 192 + 6000U);
}

TEST_F(Shard, BytesAreReproducibleWhateverMemoryHeldBefore) {
  const TinySource source(4);
  const std::string once = one_shard({}, source);
  // Dirty the allocator's free lists.
  for (int round = 0; round < 8; ++round) {
    std::vector<std::string> junk;
    for (size_t size = 16; size < (1 << 20); size *= 2) {
      junk.emplace_back(size, static_cast<char>(0x5a + round));
    }
  }
  EXPECT_EQ(one_shard({}, source), once);
}

TEST_F(Shard, AnyFlippedBitBeforeThePixelsIsSeen) {
  const TinySource source(2);
  const std::string bytes = one_shard({"recipe.frames=2"}, source);
  const StoreIndex plan = plan_store(config({"recipe.frames=2"}), source);
  const Layout layout(plan);
  const std::string file = path("flipped.h5");
  overwrite(path("valid.h5"), bytes);
  const ShardRecord record =
      read_trailer(*real_file_system().open_read(path("valid.h5")), "it").record();
  const uint64_t first = record.address(static_cast<int>(layout.frames_dataset()));
  const uint64_t size = layout.bytes(layout.frames_dataset(), record);
  for (size_t at = 0; at < bytes.size(); at += at < 64 || at + 64 > bytes.size() ? 1 : 11) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    overwrite(file, flipped);
    const auto looks_valid = [&] {
      uint64_t hdf5_bytes = 0;
      const auto in = real_file_system().open_read(file);
      const ShardTrailer found = read_trailer(*in, "it", &hdf5_bytes);
      return metadata_checksum(*in, layout, found.record(), hdf5_bytes) ==
             found.record().metadata_crc();
    };
    const bool pixels = at >= first && at < first + size;
    bool valid = false;
    try {
      valid = looks_valid();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData);
    }
    EXPECT_EQ(valid, pixels) << "byte " << at;
  }
}

// Files that are HDF5 but not ours, or ours no more: the HDF5 library never sees them.
TEST_F(Shard, HostileFilesAreRefusedByTheirTrailer) {
  const auto refuse = [&](const std::string& bytes) {
    overwrite(path("x.h5"), bytes);
    return error_of(Code::kData,
                    [&] { read_trailer(*real_file_system().open_read(path("x.h5")), "x.h5"); });
  };
  const TinySource source(2);
  const std::string bytes = one_shard({}, source);
  refuse("");
  refuse("\x89HDF\r\n\x1a\n");
  refuse(std::string(1 << 16, '\xff'));
  refuse(bytes.substr(0, bytes.size() - 1));
  refuse(bytes + "x");
  refuse(bytes.substr(1));
  std::string long_trailer = bytes;
  for (size_t i = 0; i < 4; ++i) long_trailer[bytes.size() - 16 + i] = '\xff';
  EXPECT_NE(refuse(long_trailer).find("claims"), std::string::npos);
}

TEST_F(Shard, HostileRecordsAreRefusedBeforeAnythingIsAllocated) {
  const TinySource source(2);
  const StoreIndex plan = plan_store(config(), source);
  const Layout layout(plan);
  overwrite(path("a.h5"), one_shard({}, source));
  const ShardRecord good =
      read_trailer(*real_file_system().open_read(path("a.h5")), "a.h5").record();
  check_record(layout, good, "it");
  const auto refuse = [&](const std::function<void(ShardRecord&)>& spoil) {
    ShardRecord record = good;
    spoil(record);
    error_of(Code::kData, [&] { check_record(layout, record, "it"); });
  };
  refuse([](ShardRecord& r) { r.set_clips(~uint64_t{0}); });
  refuse([](ShardRecord& r) { r.set_clips(1 << 24); });
  refuse([](ShardRecord& r) { r.set_clips(r.clips() + 1000); });
  refuse([](ShardRecord& r) { r.set_bytes(10); });
  refuse([](ShardRecord& r) { r.set_bytes(~uint64_t{0}); });
  refuse([](ShardRecord& r) { r.set_address(0, ~uint64_t{0}); });
  refuse([](ShardRecord& r) { r.set_address(3, r.bytes()); });
  refuse([](ShardRecord& r) { r.set_text_bytes(0, ~uint64_t{0}); });
  refuse([](ShardRecord& r) { r.clear_address(); });
  refuse([](ShardRecord& r) { r.add_text_bytes(0); });
}

}  // namespace
}  // namespace lf
