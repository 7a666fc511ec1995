// Reads batches of clips from a store into host memory, ahead of the consumer, on threads of its
// own. A batch is a function of (store, seed, position), where the position counts the clips seen
// by all ranks. So the loader's state is one integer, and ranks, threads and restarts change
// nothing. Pixels are delivered as stored, neither converted to floats nor moved to a device.
#pragma once

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "data/loader/batch.h"
#include "data/loader/batch_queue.h"
#include "data/loader/order.h"
#include "data/store/store.h"
#include "run.pb.h"

namespace lf {

// The part of the clips that this process loads.
struct LoaderShare {
  uint64_t seed = 0;  // of the data order and the flips
  int rank = 0;
  int ranks = 1;
  uint64_t batch = 1;  // global batch size
  // Reads only the last frames, and mirrors nothing: the other frames are made on the device.
  bool last_frames = false;
};

// `config` without shuffling and mirroring: the clips in the order of the store, as stored.
LoaderConfig in_order(LoaderConfig config);

// Totals since the loader was made.
struct LoaderCounts {
  uint64_t clips = 0;       // delivered
  uint64_t bytes = 0;       // of their pixels
  uint64_t skipped = 0;     // unreadable clips that were replaced (loader.bad_clip: SKIP)
  double wait_seconds = 0;  // spent in next()
};

class Loader {
 public:
  // Starts at position 0. Throws Code::kUsage if the options do not fit the store or the ranks.
  Loader(std::shared_ptr<const Store> store, const LoaderConfig& config, const LoaderShare& share,
         const BufferAllocator& allocate = host_buffer);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // This rank's slice of the next global batch. Throws the error that a thread met in reading this
  // batch, and again until seek(). Two batches may be held while asking for a third. One consumer
  // thread.
  Batch next();

  // Continues from any position: clips seen by all ranks.
  void seek(uint64_t position);
  // The position of the batch that next() gives.
  uint64_t position() const { return queue_->position(); }

  const BatchLayout& layout() const { return layout_; }
  const Order& order() const { return order_; }
  const LoaderCounts& counts() const { return counts_; }

 private:
  void run();
  void fill_and_publish(const BatchQueue::Claim& claim);
  void fill(const BatchQueue::Claim& claim);
  void load(BatchSlot& slot, size_t i);
  void load_or_replace(BatchSlot& slot, size_t i);
  void load_side(BatchSlot& slot, size_t i, uint64_t clip);
  void flip(BatchSlot& slot, size_t i) const;

  const std::shared_ptr<const Store> store_;
  const LoaderConfig config_;
  const LoaderShare share_;
  const RankSlice slice_;
  const BatchLayout layout_;
  const Order order_;
  std::vector<size_t> side_columns_;  // the store's numbers of the columns in loader.side
  std::shared_ptr<BatchQueue> queue_;
  LoaderCounts counts_;
  std::vector<std::thread> threads_;
};

}  // namespace lf
