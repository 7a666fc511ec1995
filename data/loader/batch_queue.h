// Hands batches from the threads that fill them to one consumer, in order of position, through a
// fixed set of slots. Each side takes the lock twice a batch, never per clip. Knows positions but
// neither clips nor files.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "data/loader/batch.h"

namespace lf {

class BatchQueue : public std::enable_shared_from_this<BatchQueue> {
 public:
  // `step` is the global batch size: the distance between the positions of two batches.
  BatchQueue(uint64_t step, size_t slots, const BatchLayout& layout,
             const std::vector<SideColumn>& columns, const BufferAllocator& allocate);

  // A slot to fill for the batch at `position`; slot null: the queue was stopped.
  struct Claim {
    BatchSlot* slot = nullptr;
    uint64_t position = 0;
    uint64_t generation = 0;
  };
  // Claims a slot for the next position. Waits for a free slot, or returns a null one if not
  // `wait`.
  Claim claim(bool wait);
  // Publishes a filled (or failed) slot. Drops it if the queue was restarted since the claim.
  void publish(const Claim& claim);
  // Returns false once the queue was restarted or stopped since the claim.
  bool wanted(const Claim& claim) const {
    return generation_.load(std::memory_order_relaxed) == claim.generation;
  }

  // Waits for the next batch in order and lends it. Throws the error of a failed batch, which stays
  // the next one, and Code::kBug if the consumer holds every slot, as it would wait for ever.
  Batch take();
  // Is the next batch filled?
  bool ready() const;

  void restart(uint64_t position);  // drops filled and claimed batches; lent ones stay lent
  void stop();                      // ends all waiting, for good

  uint64_t position() const;  // of the next batch take() gives

 private:
  Batch lend(BatchSlot* slot);
  void give_back(BatchSlot* slot);
  BatchSlot*& place_of(uint64_t position);

  const uint64_t step_;
  const BatchLayout layout_;
  std::vector<BatchSlot> slots_;

  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::condition_variable filled_;
  std::vector<BatchSlot*> free_;
  std::vector<BatchSlot*> ready_;  // by (position - origin) / step, modulo the slots
  uint64_t origin_ = 0;
  uint64_t next_claim_ = 0;
  uint64_t next_take_ = 0;
  size_t lent_ = 0;
  bool stopped_ = false;
  std::atomic<uint64_t> generation_{0};  // counts restarts; changed under the lock
};

}  // namespace lf
