// Clips in chunks of consecutive numbers: how many each rank takes, and what was made of a chunk in
// a file, so that work that was cut off resumes and work that is repeated makes nothing again. A
// chunk's content depends on its clips' numbers, never on the ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/world.h"
#include "run/arrays.h"

namespace lf {

// `count` clips in chunks of `size`, the last one shorter; rank r takes [first(r), first(r + 1)).
struct Chunks {
  int64_t count = 0, size = 1;

  // Of a size that keeps many ranks busy, few files, and a chunk of clips well within memory.
  static Chunks of(int64_t count, int64_t bytes_per_clip);
  int64_t number() const { return (count + size - 1) / size; }
  // Rank 0 always has one.
  int64_t first(int rank, int ranks) const { return (number() * rank + ranks - 1) / ranks; }
  int64_t begin(int64_t chunk) const { return chunk * size; }
  int64_t length(int64_t chunk) const { return std::min(size, count - chunk * size); }
};

// A folder of chunk files under the description that they hold for; other content goes elsewhere.
// Nothing is written before there is something to keep.
class ChunkCache {
 public:
  ChunkCache() = default;  // keeps nothing
  // ROOT/NAME-HASH, by a hash of `description`, which the folder also holds as text.
  ChunkCache(std::string root, const std::string& name, std::string description);

  // The first `length` rows of a chunk's arrays: read if they are there, whole and long enough;
  // else made and, unless the disk is full or read-only, kept.
  TensorsByName get(int64_t chunk, int64_t length,
                    const std::function<TensorsByName()>& make) const;

  bool has(int64_t chunk) const;  // a file of it, whatever is in it
  // Makes the folder with its description; get() does so with the first chunk.
  void make_folder() const;
  // The folder, and the root with it if nothing else is in it.
  void remove() const;
  const std::string& folder() const { return folder_; }

 private:
  std::string path_of(int64_t chunk) const;
  std::string root_, folder_, description_;
};

// Collective. Clips of the chunks that are not kept.
int64_t chunks_missing(World& world, const Chunks& chunks, const ChunkCache& kept);

// "1,800 to do, 200 kept, about 2m14s": what those will take over all ranks.
std::string cost_text(World& world, const Chunks& chunks, int64_t missing, double seconds_each);

// "2 ranks of 1 thread".
std::string workers_text(World& world);

// Collective. Runs `work` on each of this rank's chunks and shows the progress; the rate is of
// those for which `work` returned true: they were made now, not found. Code::kInterrupted on every
// rank if one was asked to stop, by stop_requested() or by `break_off`, before the end of its last
// chunk; also in the middle of one, at an interruption_point(), of which then nothing is kept.
void for_own_chunks(World& world, const Chunks& chunks, const std::string& title,
                    const std::function<bool()>& break_off,
                    const std::function<bool(int64_t chunk)>& work);

// Collective. The rows of all ranks one behind the other, on rank 0; undefined elsewhere. Rows are
// contiguous and all of one type and shape.
at::Tensor gather_rows(World& world, const std::vector<at::Tensor>& own);

}  // namespace lf
