#include "data/loader/batch_queue.h"

#include <utility>

#include "base/error.h"

namespace lf {

BatchQueue::BatchQueue(uint64_t step, size_t slots, const BatchLayout& layout,
                       const std::vector<SideColumn>& columns, const BufferAllocator& allocate)
    : step_(step), layout_(layout), ready_(slots, nullptr) {
  slots_.reserve(slots);
  for (size_t i = 0; i < slots; ++i) slots_.emplace_back(layout, columns, allocate);
  for (BatchSlot& slot : slots_) free_.push_back(&slot);
}

BatchSlot*& BatchQueue::place_of(uint64_t position) {
  return ready_[(position - origin_) / step_ % ready_.size()];
}

BatchQueue::Claim BatchQueue::claim(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) freed_.wait(lock, [&] { return stopped_ || !free_.empty(); });
  if (stopped_ || free_.empty()) return {};
  Claim claim{free_.back(), next_claim_, generation_.load(std::memory_order_relaxed)};
  free_.pop_back();
  next_claim_ += step_;
  return claim;
}

void BatchQueue::publish(const Claim& claim) {
  std::unique_lock lock(mutex_);
  const bool wanted = this->wanted(claim);
  if (wanted) {
    place_of(claim.position) = claim.slot;
  } else {
    free_.push_back(claim.slot);
  }
  lock.unlock();
  // The lock is released, so that the woken thread need not wait for it.
  (wanted ? filled_ : freed_).notify_one();
}

bool BatchQueue::ready() const {
  const std::lock_guard lock(mutex_);
  return ready_[(next_take_ - origin_) / step_ % ready_.size()] != nullptr;
}

Batch BatchQueue::take() {
  std::unique_lock lock(mutex_);
  if (lent_ == slots_.size()) {
    fail(Code::kBug, "all ", lent_,
         " batches of the loader are still in use; drop one before asking "
         "for the next");
  }
  filled_.wait(lock, [&] { return stopped_ || place_of(next_take_) != nullptr; });
  LF_CHECK(!stopped_, "the loader was stopped while its consumer waited");
  BatchSlot* slot = place_of(next_take_);
  if (slot->failed) throw Error(slot->code, slot->message);
  place_of(next_take_) = nullptr;
  next_take_ += step_;
  ++lent_;
  lock.unlock();
  return lend(slot);
}

Batch BatchQueue::lend(BatchSlot* slot) {
  Batch batch;
  batch.lease = std::shared_ptr<const void>(
      slot->buffer.get(),
      [queue = shared_from_this(), slot](const void*) { queue->give_back(slot); });
  batch.batch_position = slot->batch_position;
  batch.position = slot->position;
  batch.layout = layout_;
  batch.frames = static_cast<uint8_t*>(slot->buffer.get());
  batch.clips = slot->entries;
  batch.labels = slot->labels;
  batch.side = slot->side;
  batch.replaced = slot->replaced;
  return batch;
}

void BatchQueue::give_back(BatchSlot* slot) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
    --lent_;
  }
  freed_.notify_one();
}

void BatchQueue::restart(uint64_t position) {
  {
    const std::lock_guard lock(mutex_);
    for (BatchSlot*& slot : ready_) {
      if (slot != nullptr) free_.push_back(std::exchange(slot, nullptr));
    }
    origin_ = next_claim_ = next_take_ = position;
    generation_.fetch_add(1, std::memory_order_relaxed);
  }
  freed_.notify_all();
}

void BatchQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    generation_.fetch_add(1, std::memory_order_relaxed);
  }
  freed_.notify_all();
  filled_.notify_all();
}

uint64_t BatchQueue::position() const {
  const std::lock_guard lock(mutex_);
  return next_take_;
}

}  // namespace lf
