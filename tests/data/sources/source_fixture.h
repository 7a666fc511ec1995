// What the tests of sources share: opening one from options, and a temporary folder.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "data/image/image.h"
#include "data/sources/source.h"

namespace lf::source_test {

namespace fs = std::filesystem;

inline SourceConfig config_of(const std::vector<std::string>& sets) {
  std::vector<std::string> prefixed;
  for (const std::string& set : sets) prefixed.push_back("source." + set);
  return load_config("", prefixed).source();
}

inline std::unique_ptr<Source> open(const std::vector<std::string>& sets) {
  return open_source(config_of(sets));
}

// The refusal to open, as "code: message"; "" if it opens.
inline std::string refusal(const std::vector<std::string>& sets) {
  try {
    open(sets);
  } catch (const Error& error) {
    return str(error.exit_status(), ": ", error.what());
  }
  return "";
}

inline std::string bad_item(const Source& source, uint64_t index) {
  try {
    source.load(index);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kData);
    return error.what();
  }
  return "";
}

inline Image grey(int h, int w, uint8_t value) {
  return {h, w, 1, std::vector<uint8_t>(static_cast<size_t>(h * w), value)};
}

inline void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string fixture(const std::string& name) {
  return std::string(LF_FIXTURES) + "/images/" + name;
}

class SourceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/lastframe-source-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  void add_image(const std::string& name, const Image& image) const {
    fs::create_directories(fs::path(at(name)).parent_path());
    put(at(name), encode_png(image));
  }
  std::string folder_;
};

}  // namespace lf::source_test
