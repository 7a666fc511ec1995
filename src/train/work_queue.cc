#include "train/work_queue.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "base/log.h"

namespace lf {
namespace {

void make_wait(const c10::Stream& waiting, const c10::Stream& other) {
  c10::Event event(other.device_type());
  event.record(other);
  event.block(waiting);
}

}  // namespace

WorkQueue::WorkQueue(at::Device device) {
  if (device.is_cpu()) return;
  stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

WorkQueue::Turn::Turn(const WorkQueue& queue, Begin begin) : own_(queue.stream_) {
  if (!own_) return;
  const c10::impl::VirtualGuardImpl guard(own_->device_type());
  before_ = guard.getStream(own_->device());
  if (begin == Begin::kAfterCurrent) make_wait(*own_, *before_);
  guard.exchangeStream(*own_);
}

WorkQueue::Turn::~Turn() {
  if (!own_) return;
  try {
    make_wait(*before_, *own_);
    c10::impl::VirtualGuardImpl(own_->device_type()).exchangeStream(*before_);
  } catch (const std::exception& error) {  // whatever is asked of the device next says it again
    LF_ERROR("while leaving a queue of the GPU: ", error.what());
  }
}

void WorkQueue::keep(const at::Tensor& tensor) const {
  if (!stream_ || !tensor.defined()) return;
  c10::impl::VirtualGuardImpl(stream_->device_type())
      .recordDataPtrOnStream(tensor.storage().data_ptr(), *stream_);
}

}  // namespace lf
