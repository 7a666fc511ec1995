// The data order. Training counts clips seen ("positions"); the clip at a position (epoch, clip id,
// draw of its corruption, mirrored or not) is a pure function of (seed, position). There is no
// state to save, and ranks take slices of positions, so the order is the same for any number of
// ranks, threads and restarts. Reads no files.
#pragma once

#include <cstdint>
#include <span>

namespace lf {

// The clip at one position.
struct OrderEntry {
  uint64_t epoch = 0;
  uint64_t clip = 0;
  uint32_t draw = 0;
  bool flip = false;
  bool operator==(const OrderEntry&) const = default;
};

struct OrderOptions {
  uint32_t draws = 1;   // draws of the store, one an epoch in turn; 0: a fresh one each epoch
  double flip = 0;      // probability that a clip is mirrored
  bool shuffle = true;  // false: every epoch in order of clip id
};

// The part of a global batch that one rank takes: [first, first + count) counted within the batch.
struct RankSlice {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Throws Code::kUsage unless `ranks` divides `batch`.
RankSlice slice_of_rank(uint64_t batch, int rank, int ranks);

// Immutable and thread-safe; O(1) memory for any number of clips.
class Order {
 public:
  // Throws Code::kUsage if `clips` is 0.
  Order(uint64_t seed, uint64_t clips, const OrderOptions& options);

  OrderEntry at(uint64_t position) const;
  // at(first), at(first + 1), ...; a batch may straddle epochs.
  void fill(uint64_t first, std::span<OrderEntry> entries) const;

  // The clip that replaces an unreadable one at `position`; attempt 0, 1, ...
  uint64_t substitute(uint64_t position, uint32_t attempt) const;

  uint64_t clips() const { return clips_; }

 private:
  uint64_t seed_;
  uint64_t clips_;
  OrderOptions options_;
};

}  // namespace lf
