// A store is a folder of shards and an index: the clips a run trains on, written once and provably
// intact. Opening reads the index only; a shard is looked at when one of its clips is first read.
// Store is the reading side: immutable, used by many threads. Writing is data/store/build, the HDF5
// inside a shard is data/store/shard. Called by data/loader/loader, launch and train.
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
  // Code::kUsage if there is no finished store at `folder`, Code::kData if its index is damaged. At
  // most `open_shards` files are held open; 0 chooses a share of what the process may open.
  static std::shared_ptr<const Store> open(const std::string& folder, size_t open_shards = 0,
                                           ReadMode mode = PREAD);
  virtual ~Store() = default;

  virtual const StoreIndex& index() const = 0;  // id, recipe, shape, one record a shard
  virtual const std::string& folder() const = 0;
  virtual uint64_t clips() const = 0;
  virtual ClipShape clip_shape() const = 0;  // frames = T
  virtual const Recipe& recipe() const = 0;

  // Clip `clip` whole, frames in order, CRC checked: the first T-1 frames into `corrupted`
  // (recipe().corrupted_bytes(); made on the spot when RECOMPUTED) and the image into `clean`
  // (clean_bytes()). `corrupted` may be null: then only the image is read. `draw` (the epoch) is
  // taken modulo the draws held, or as it is if the store makes fresh ones.
  // Damage is Code::kData naming shard and clip. Thread-safe.
  virtual void read(uint64_t clip, uint32_t draw, void* corrupted, uint8_t* clean) const = 0;
  // What the random numbers of the clip's frames are keyed by.
  virtual ClipKey key(uint64_t clip, uint32_t draw) const = 0;
  virtual int64_t label(uint64_t clip) const = 0;  // -1: none
  virtual std::string name(uint64_t clip) const = 0;
  virtual SideValue side(uint64_t clip, size_t column) const = 0;

  // The shard that holds `clip`; the clips of shard s are [first_clip(s), first_clip(s + 1)).
  virtual uint64_t shard_of(uint64_t clip) const = 0;
  virtual uint64_t first_clip(uint64_t shard) const = 0;
};

}  // namespace lf
