#include "data/loader/batch.h"

#include <cstdlib>

#include "base/text.h"

namespace lf {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 64;                  // of the clean frames after fp16 ones
constexpr size_t kLargestBatch = size_t{1} << 46;  // bytes; no host holds more

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

BatchLayout batch_layout(uint64_t clips, const ClipShape& shape, Element element) {
  BatchLayout layout;
  layout.clips = clips;
  layout.shape = shape;
  layout.element = element;
  layout.clean_bytes = shape.image().bytes();
  const size_t element_bytes = element == Element::kUint8 ? 1 : 2;
  layout.corrupted_bytes =
      layout.clean_bytes * static_cast<size_t>(shape.frames - 1) * element_bytes;
  const size_t clip_bytes = layout.corrupted_bytes + layout.clean_bytes;
  if (clips == 0 || clip_bytes == 0 || clips > kLargestBatch / clip_bytes) {
    fail(Code::kUsage, "a batch of ", clips, " clips of ", human_bytes(clip_bytes),
         " cannot be held in memory; choose a smaller batch");
  }
  if (element == Element::kUint8) {
    layout.corrupted_stride = layout.clean_stride = clip_bytes;
    layout.clean_offset = layout.corrupted_bytes;
    layout.bytes = clip_bytes * clips;
  } else {
    layout.corrupted_stride = layout.corrupted_bytes;
    layout.clean_stride = layout.clean_bytes;
    layout.clean_offset = round_up(layout.corrupted_bytes * clips, kAlignment);
    layout.bytes = layout.clean_offset + layout.clean_bytes * clips;
  }
  return layout;
}

std::shared_ptr<void> host_buffer(size_t bytes) {
  return {std::aligned_alloc(kPage, round_up(bytes, kPage)), std::free};
}

BatchSlot::BatchSlot(const BatchLayout& layout, const std::vector<SideColumn>& columns,
                     const BufferAllocator& allocate)
    : buffer(allocate(layout.bytes)),
      entries(layout.clips),
      by_clip(layout.clips),
      labels(layout.clips) {
  if (buffer == nullptr) {
    fail(Code::kUsage, "no memory for a batch of ", layout.clips, " clips (",
         human_bytes(layout.bytes), "); lower loader.prefetch or the batch");
  }
  for (const SideColumn& column : columns) {
    SideBatch& batch = side.emplace_back();
    batch.column = column;
    const size_t values = layout.clips * static_cast<size_t>(column.width);
    if (column.kind == SideColumn::Kind::kInt64) batch.ints.resize(values);
    if (column.kind == SideColumn::Kind::kFloat) batch.floats.resize(values);
    if (column.kind == SideColumn::Kind::kText) batch.texts.resize(layout.clips);
  }
}

}  // namespace lf
