// Estimates the cost of a store before it is built: bytes on disk, time to build, bytes read in
// training. Sizes come from a small shard that the build's own code makes in memory, times from a
// quick measurement of the source and the recipe on this machine. Writes nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "data/sources/source.h"
#include "run.pb.h"

namespace lf {

struct StoreCost {
  StoreMode mode = STORED;
  uint32_t draws = 1;  // on disk; 0: none, frames are made when read
  uint64_t clips = 0;  // if every item of the source is usable
  uint64_t shards = 0;
  uint64_t bytes = 0;             // of all shards and the index
  uint64_t read_bytes = 0;        // of pixels, for one clip of training
  double build_core_seconds = 0;  // of all clips
  double read_core_seconds = 0;   // one clip's, to make its frames when it is read
};

struct SourceRates {
  uint64_t sampled = 0;       // items tried
  uint64_t bad = 0;           // of these, unusable
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

// Measures for about `seconds`. Throws Code::kData if none of the items tried is usable.
CostEstimate estimate_cost(const Config& config, const Source& source, double seconds);

}  // namespace lf
