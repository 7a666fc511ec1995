#include "run/chunks.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/stop.h"
#include "comm/watchdog.h"

namespace lf {
namespace {

constexpr int64_t kMostBytes = int64_t{256} << 20;  // of the clips of a chunk

}  // namespace

Chunks Chunks::of(int64_t count, int64_t bytes_per_clip) {
  const int64_t usual = count <= 4096 ? 32 : count <= 32768 ? 128 : 512;
  return {count, std::clamp<int64_t>(kMostBytes / std::max<int64_t>(1, bytes_per_clip), 1, usual)};
}

ChunkCache::ChunkCache(std::string root, const std::string& name, std::string description)
    : root_(std::move(root)), description_(std::move(description)) {
  std::array<char, 20> hash{};
  std::snprintf(hash.data(), hash.size(), "-%016llx",
                static_cast<unsigned long long>(fnv1a(description_)));
  folder_ = root_ + "/" + name + hash.data();
}

void ChunkCache::make_folder() const {
  FileSystem& files = real_file_system();
  const std::string path = folder_ + "/description.txt";
  files.make_folders(folder_);
  if (!files.exists(path)) publish_file(files, path, description_);
}

std::string ChunkCache::path_of(int64_t chunk) const {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/chunk-%06lld.npz", static_cast<long long>(chunk));
  return folder_ + name.data();
}

bool ChunkCache::has(int64_t chunk) const {
  return !folder_.empty() && real_file_system().exists(path_of(chunk));
}

TensorsByName ChunkCache::get(int64_t chunk, int64_t length,
                              const std::function<TensorsByName()>& make) const {
  if (folder_.empty()) return make();
  const std::string path = path_of(chunk);
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

void ChunkCache::remove() const {
  if (folder_.empty()) return;
  FileSystem& files = real_file_system();
  files.remove_tree(folder_);
  if (files.exists(root_) && files.list(root_).empty()) files.remove_tree(root_);
}

int64_t chunks_missing(World& world, const Chunks& chunks, const ChunkCache& kept) {
  int64_t missing = 0;
  const int64_t last = chunks.first(world.rank() + 1, world.size());
  for (int64_t chunk = chunks.first(world.rank(), world.size()); chunk < last; ++chunk) {
    if (!kept.has(chunk)) missing += chunks.length(chunk);
  }
  return world.sum(missing);
}

std::string cost_text(World& world, const Chunks& chunks, int64_t missing, double seconds_each) {
  const int64_t kept = chunks.count - missing;
  return str(human_count(static_cast<uint64_t>(missing)),
             kept > 0 ? str(" to do, ", human_count(static_cast<uint64_t>(kept)), " kept") : "",
             ", about ", human_seconds(seconds_each * static_cast<double>(missing) / world.size()));
}

std::string workers_text(World& world) {
  const int threads = at::get_num_threads();
  return str(world.size(), world.size() == 1 ? " rank of " : " ranks of ", threads,
             threads == 1 ? " thread" : " threads");
}

void for_own_chunks(World& world, const Chunks& chunks, const std::string& title,
                    const std::function<bool()>& break_off,
                    const std::function<bool(int64_t chunk)>& work) {
  const int64_t first = chunks.first(world.rank(), world.size());
  const int64_t last = chunks.first(world.rank() + 1, world.size());
  const auto own = [&](int64_t chunk) {
    return static_cast<uint64_t>(std::min(chunks.count, chunks.begin(chunk)) - chunks.begin(first));
  };
  // Rank 0 shows its own share; the others' are as large.
  Progress progress(title, world.size() > 1 ? "of rank 0's samples" : "samples", own(last));
  int64_t chunk = first;
  const Interruptible interruptible(break_off);
  for (; chunk < last && !interruptible.is_asked(); ++chunk) {
    try {
      if (!work(chunk)) progress.found(static_cast<uint64_t>(chunks.length(chunk)));
    } catch (const Error& error) {
      if (error.code() != Code::kInterrupted) throw;
      break;  // the other ranks hear of it below
    }
    note_progress();
    if (world.is_root()) progress.show(own(chunk + 1));
  }
  if (world.is_root() && last > first) progress.finish(own(chunk));
  if (world.max(static_cast<int64_t>(chunk < last)) != 0) {
    fail(Code::kInterrupted, printable(title),
         ": asked to stop; the same command resumes after the finished chunks");
  }
}

at::Tensor gather_rows(World& world, const std::vector<at::Tensor>& own) {
  std::string bytes;
  for (const at::Tensor& rows : own) {
    bytes.append(static_cast<const char*>(rows.const_data_ptr()), rows.nbytes());
  }
  const std::vector<std::string> all = world.gather(bytes);
  if (!world.is_root()) return {};
  // Rank 0 has the first chunk, so it knows the shape of a row.
  LF_CHECK(!own.empty(), "rank 0 has no rows");
  const size_t row_bytes = own[0].nbytes() / static_cast<size_t>(own[0].size(0));
  size_t total = 0;
  for (const std::string& part : all) total += part.size();
  std::vector<int64_t> shape = own[0].sizes().vec();
  shape[0] = static_cast<int64_t>(total / row_bytes);
  at::Tensor out = at::empty(shape, own[0].options());
  auto* into = static_cast<char*>(out.mutable_data_ptr());
  for (const std::string& part : all) {
    into = std::copy(part.begin(), part.end(), into);
  }
  return out;
}

}  // namespace lf
