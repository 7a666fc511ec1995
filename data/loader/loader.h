// The reading end of a store: turns positions (clips seen so far) into batches in host memory,
// ahead of the step, on threads of its own. Everything it delivers is a function of (store, seed,
// position), so its state is one integer, and ranks, threads and restarts change nothing. Pixels
// come as stored; turning them into floats, and moving them to a device, is the trainer's. Called
// by train, eval and `lastframe bench load`.
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

// Which part of the clips this process loads.
struct LoaderShare {
  uint64_t seed = 0;  // of the data order and the flips
  int rank = 0;
  int ranks = 1;
  uint64_t batch = 1;  // clips in one step, over all ranks together
  // Only the last frames are read, and nothing is mirrored: the others are made elsewhere.
  bool last_frames = false;
};

// What a loader did since it was made; differences tell about an interval.
struct LoaderCounts {
  uint64_t clips = 0;    // handed out
  uint64_t bytes = 0;    // of their pixels
  uint64_t skipped = 0;  // clips that could not be read and were replaced (loader.bad_clip: SKIP)
  double wait_seconds = 0;  // that next() kept its caller waiting
};

class Loader {
 public:
  // Starts at position 0. Code::kUsage if the options do not fit the store or the ranks.
  Loader(std::shared_ptr<const Store> store, const LoaderConfig& config, const LoaderShare& share,
         const BufferAllocator& allocate = host_buffer);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // This rank's slice of the next global batch. What went wrong in a thread is thrown here, when
  // the batch's turn comes, and again until seek(). Two batches may be held while asking for a
  // third. One consumer thread.
  Batch next();

  // Goes on from any position: clips seen by all ranks together.
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
  std::vector<size_t> side_columns_;  // numbers in the store of the columns asked for
  std::shared_ptr<BatchQueue> queue_;
  LoaderCounts counts_;
  std::vector<std::thread> threads_;
};

}  // namespace lf
