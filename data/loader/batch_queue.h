// Hands whole batches from the threads that fill them to the one consumer, in order, through a
// fixed set of slots. One lock is taken twice a batch by a filler and twice by the consumer, never
// per clip. It knows positions but neither clips nor files. Called by data/loader/loader only.
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
  // `step` is the size of the global batch: what lies between two batches' positions.
  BatchQueue(uint64_t step, size_t slots, const BatchLayout& layout,
             const std::vector<SideColumn>& columns, const BufferAllocator& allocate);

  // A slot to fill for the batch at `position`; slot null: the queue was stopped.
  struct Claim {
    BatchSlot* slot = nullptr;
    uint64_t position = 0;
    uint64_t life = 0;
  };
  // Claims come in order of position. Waits for a free slot, or returns a null slot if not `wait`.
  Claim claim(bool wait);
  // The slot is filled (or failed). A claim from before a restart is dropped.
  void publish(const Claim& claim);
  // False once the claim's batch will not be wanted any more: restarted or stopped.
  bool wanted(const Claim& claim) const {
    return life_.load(std::memory_order_relaxed) == claim.life;
  }

  // Waits for the next batch in order and lends it; a failed one throws and stays the next one.
  // Code::kBug if the consumer itself holds every slot, which would otherwise wait for ever.
  Batch take();
  // The next batch is there already.
  bool ready() const;

  void restart(uint64_t position);  // drops what is ready or on its way; lent batches stay lent
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
  std::atomic<uint64_t> life_{0};  // counts restarts; changed under the lock
};

}  // namespace lf
