#include "eval/chunks.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "eval/arrays.h"

namespace lf {
namespace {

constexpr int64_t kMostBytes = int64_t{256} << 20;  // of the clips of a chunk

// FNV-1a.
uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

Chunks Chunks::of(int64_t count, int64_t bytes_per_clip) {
  const int64_t usual = count <= 4096 ? 32 : count <= 32768 ? 128 : 512;
  return {count, std::clamp<int64_t>(kMostBytes / std::max<int64_t>(1, bytes_per_clip), 1, usual)};
}

ChunkCache::ChunkCache(const std::string& root, const std::string& name, std::string description)
    : description_(std::move(description)) {
  std::array<char, 20> hash{};
  std::snprintf(hash.data(), hash.size(), "-%016llx",
                static_cast<unsigned long long>(hash_of(description_)));
  folder_ = root + "/" + name + hash.data();
}

void ChunkCache::make_folder() const {
  FileSystem& files = real_file_system();
  const std::string path = folder_ + "/description.txt";
  files.make_folders(folder_);
  if (!files.exists(path)) publish_file(files, path, description_);
}

TensorsByName ChunkCache::get(int64_t chunk, int64_t length,
                              const std::function<TensorsByName()>& make) const {
  if (folder_.empty()) return make();
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/chunk-%06lld.npz", static_cast<long long>(chunk));
  const std::string path = folder_ + name.data();
  if (real_file_system().exists(path)) {
    try {
      TensorsByName arrays = load_npz(path);
      bool enough = true;
      for (auto& [array, rows] : arrays) {
        enough = enough && rows.dim() > 0 && rows.size(0) >= length;
        if (enough) rows = rows.slice(0, 0, length);
      }
      if (enough) return arrays;
    } catch (const Error& error) {
      LF_WARN("made again: ", error.what());
    }
  }
  TensorsByName arrays = make();
  try {
    if (chunk == 0) make_folder();
    real_file_system().make_folders(folder_);
    save_npz(arrays, path);
  } catch (const Error& error) {
    if (error.code() != Code::kStorage) throw;
    LF_WARN("not kept: ", error.what());
  }
  return arrays;
}

}  // namespace lf
