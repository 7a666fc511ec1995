// What a store will cost before it is built: bytes on disk, time to build, bytes a training run
// asks of the file system. Sizes come from a small shard made in memory by the build's own code,
// times from a quick measurement of the source and the recipe on this machine. Writes nothing.
// Called by `lastframe plan`.
#pragma once

#include <cstdint>
#include <optional>

#include "data/sources/source.h"
#include "run.pb.h"

namespace lf {

struct StoreCost {
  StoreMode mode = STORED;
  uint32_t draws = 1;  // on disk; 0: none, frames are made when read
  uint64_t clips = 0;  // if every item of the source is good
  uint64_t shards = 0;
  uint64_t bytes = 0;             // of all shards and the index
  uint64_t read_bytes = 0;        // of pixels, for one clip of training
  double build_core_seconds = 0;  // of all clips
  double read_core_seconds = 0;   // one clip's, to make its frames when it is read
};

struct SourceRates {
  uint64_t sampled = 0;       // items looked at
  uint64_t bad = 0;           // of them, that cannot be used
  double load_seconds = 0;    // one item: read, decode, resize
  double recipe_seconds = 0;  // one draw of one item's frames
};

struct CostEstimate {
  ClipShape clip;              // frames = T
  uint32_t element_bytes = 1;  // of a corrupted frame
  SourceRates rates;
  StoreCost stored;
  std::optional<StoreCost> recomputed;  // of images; real videos can only be stored
};

// `seconds` is about how long it may measure. Code::kData if none of the items sampled can be used.
CostEstimate estimate_cost(const Config& config, const Source& source, double seconds);

}  // namespace lf
