#include "base/file_hash.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/crc32c.h"

namespace lf {
namespace {

constexpr uint64_t kPiece = 4 << 20;  // fits the cache

}  // namespace

uint32_t crc32c_of(const InFile& file, uint64_t begin) {
  std::vector<char> piece(std::min(file.size(), kPiece));
  uint32_t crc = 0;
  for (uint64_t at = begin; at < file.size(); at += piece.size()) {
    const uint64_t size = std::min<uint64_t>(file.size() - at, piece.size());
    file.read(at, piece.data(), size);
    crc = crc32c(piece.data(), size, crc);
  }
  return crc;
}

std::string hash_of_file(const std::string& path, uint64_t begin) {
  const std::unique_ptr<InFile> file = real_file_system().open_read(path);
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%08x%08x", crc32c_of(*file, begin),
                static_cast<unsigned>(file->size() - begin));
  return text.data();
}

}  // namespace lf
