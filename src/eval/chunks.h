// Samples in chunks of consecutive numbers: how many each rank takes, and their clips and features
// in files, so that an evaluation that was cut off goes on where it stood and one that is repeated
// makes nothing again. A chunk's content depends on its samples' numbers only, never on the ranks.
// Called by eval/extraction and eval/evaluate.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>

#include "base/named_tensor.h"

namespace lf {

// `count` samples in chunks of `size`, the last one shorter; rank r takes [first(r), first(r + 1)).
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

// A folder of chunk files under a description that they hold for; other content goes elsewhere.
// Nothing is written before there is something to keep.
class ChunkCache {
 public:
  ChunkCache() = default;  // remembers nothing
  // ROOT/NAME-HASH, by a hash of `description`, which the folder also holds as text.
  ChunkCache(const std::string& root, const std::string& name, std::string description);

  // The first `length` rows of a chunk's arrays: read if they are there, whole and long enough;
  // else made and, unless the disk is full or read-only, kept.
  TensorsByName get(int64_t chunk, int64_t length,
                    const std::function<TensorsByName()>& make) const;

  // Makes the folder with its description, once; whoever has the first chunk does so in get().
  void make_folder() const;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_, description_;
};

}  // namespace lf
