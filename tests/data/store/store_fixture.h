// A small source with labels, side columns and, on request, unusable items; temporary folders; and
// helpers for tests of stores.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "config/config.h"
#include "data/store/build.h"
#include "data/store/store.h"
#include "tests/error_of.h"

namespace lf {

class TinySource : public Source {
 public:
  explicit TinySource(uint64_t items, ClipShape shape = {1, 8, 8, 3})
      : items_(items), shape_(shape) {}
  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return items_; }
  std::vector<std::string> label_names() const override { return {"zero", "one\nline", "two"}; }
  std::vector<SideColumn> side_columns() const override {
    return {{SideColumn::Kind::kInt64, "position", 2},
            {SideColumn::Kind::kText, "caption", 1},
            {SideColumn::Kind::kFloat, "embedding", 3}};
  }
  std::string name_of(uint64_t index) const override { return str("item ", index, "\n"); }
  Sample load(uint64_t index) const override {
    if (bad.contains(index)) fail(Code::kData, "it is cut off");
    Sample sample;
    sample.pixels.resize(shape_.bytes());
    std::vector<uint32_t> bits(sample.pixels.size());
    uniform_bits({7 + seed, Purpose::kGenerated, index, 0}, 0, bits.size(), bits.data());
    for (size_t i = 0; i < bits.size(); ++i) sample.pixels[i] = static_cast<uint8_t>(bits[i]);
    sample.label = static_cast<int64_t>(index % 3);
    sample.name = name_of(index);
    const auto number = static_cast<int64_t>(index);
    sample.side.resize(3);
    sample.side[0].ints = {number, -number};
    sample.side[1].text = std::string(index % 5, 'x');
    sample.side[2].floats = {static_cast<float>(index), 0.5F, -1.F};
    return sample;
  }

  std::set<uint64_t> bad;
  uint64_t seed = 0;

 private:
  uint64_t items_;
  ClipShape shape_;
};

class StoreTest : public testing::Test {
 protected:
  StoreTest() {
    root_ = testing::TempDir() + str("lf-store-", ::getpid(), "-", counter_++);
    std::filesystem::create_directories(root_);
  }
  ~StoreTest() override { std::filesystem::remove_all(root_); }
  std::string path(const std::string& name) const { return root_ + "/" + name; }

  // Four clips a shard unless said otherwise.
  static Config config(std::vector<std::string> sets = {}) {
    sets.insert(sets.begin(), {"recipe.frames=4", "store.clips_per_shard=4"});
    return load_config("", sets);
  }

  static BuildResult build(const std::string& folder, const Source& source, const Config& config,
                           int rank = 0, int size = 1, FileSystem* files = nullptr,
                           int threads = 2) {
    BuildRequest request;
    request.config = config;
    request.source = &source;
    request.folder = folder;
    request.rank = rank;
    request.size = size;
    request.threads = threads;
    request.files = files;
    return build_store(request);
  }

  std::string root_;

 private:
  static inline int counter_ = 0;
};

// Every file below a folder with its bytes.
inline std::map<std::string, std::string> snapshot(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    std::ostringstream bytes;
    bytes << in.rdbuf();
    files[entry.path().string().substr(folder.size())] = bytes.str();
  }
  return files;
}

inline void overwrite(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string bytes_of_file(const std::string& path) {
  return read_file(real_file_system(), path, uint64_t{1} << 30);
}

inline void flip_bit(const std::string& path, uint64_t byte, int bit = 3) {
  std::string bytes = bytes_of_file(path);
  bytes.at(byte) = static_cast<char>(bytes[byte] ^ (1 << bit));
  overwrite(path, bytes);
}

// A clip whole: its frames and the image.
inline std::vector<uint8_t> clip_of(const Store& store, uint64_t clip, uint32_t draw = 0) {
  std::vector<uint8_t> bytes(store.recipe().corrupted_bytes() + store.recipe().clean_bytes());
  store.read(clip, draw, bytes.data(), bytes.data() + store.recipe().corrupted_bytes());
  return bytes;
}

}  // namespace lf
