// A store is a folder of shards and an index: the clips a run trains on, written once, every part
// under a checksum. Store reads it and is immutable and thread-safe. Opening reads the index only;
// a shard is opened when one of its clips is first read. README.md describes the format.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/recipe/recipe.h"
#include "data/sources/source.h"
#include "record.pb.h"

namespace lf {

class Store {
 public:
  // Throws Code::kUsage if there is no finished store at `folder`, Code::kData if its index is
  // damaged. Keeps at most `open_shards` files open; 0 is a quarter of the process's limit.
  static std::shared_ptr<const Store> open(const std::string& folder, size_t open_shards = 0,
                                           ReadMode mode = PREAD);
  virtual ~Store() = default;

  virtual const StoreIndex& index() const = 0;  // id, recipe, shape, one record a shard
  virtual const std::string& folder() const = 0;
  virtual uint64_t clips() const = 0;
  virtual ClipShape clip_shape() const = 0;  // frames = T
  virtual const Recipe& recipe() const = 0;

  // Reads clip `clip` and checks its CRCs: the first T-1 frames into `corrupted`
  // (recipe().corrupted_bytes(); made from the image if RECOMPUTED), the image into `clean`
  // (clean_bytes()). If `corrupted` is null, reads the image only. `draw` is taken modulo the
  // store's draws, or as it is if the store makes fresh ones. Throws Code::kData naming shard and
  // clip on damage. Thread-safe.
  virtual void read(uint64_t clip, uint32_t draw, void* corrupted, uint8_t* clean) const = 0;
  // The key of the random numbers of the clip's frames.
  virtual ClipKey key(uint64_t clip, uint32_t draw) const = 0;
  virtual int64_t label(uint64_t clip) const = 0;  // -1: none
  virtual std::string name(uint64_t clip) const = 0;
  virtual SideValue side(uint64_t clip, size_t column) const = 0;

  // The shard that holds `clip`; the clips of shard s are [first_clip(s), first_clip(s + 1)).
  virtual uint64_t shard_of(uint64_t clip) const = 0;
  virtual uint64_t first_clip(uint64_t shard) const = 0;
};

}  // namespace lf
