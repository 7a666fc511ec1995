// A batch of clips in host memory: the layout of its buffer, the slot a loader fills and the handle
// its consumer gets. Reads no files.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "data/loader/order.h"
#include "data/recipe/recipe.h"
#include "data/sources/source.h"

namespace lf {

// The layout of a batch's buffer. With uint8 frames it is one dense [clips, T, H, W, C] array; with
// fp16 frames it is [clips, T-1, H, W, C] fp16 followed, at clean_offset, by [clips, H, W, C]
// uint8.
struct BatchLayout {
  uint64_t clips = 0;
  ClipShape shape;  // frames = T
  Element element = Element::kUint8;
  size_t corrupted_bytes = 0;   // frames 0..T-2 of one clip
  size_t corrupted_stride = 0;  // from one clip to the next
  size_t clean_bytes = 0;       // frame T-1 of one clip
  size_t clean_offset = 0;      // of the first clip's
  size_t clean_stride = 0;
  size_t bytes = 0;  // of the whole buffer

  size_t pixel_bytes() const {  // of a corrupted frame
    return static_cast<size_t>(shape.channels) * (element == Element::kUint8 ? 1 : 2);
  }
};

// Throws Code::kUsage if such a batch could not be held in memory.
BatchLayout batch_layout(uint64_t clips, const ClipShape& shape, Element element);

// One side column of a batch; only the member of its kind is filled, `width` values a clip.
struct SideBatch {
  SideColumn column;
  std::vector<int64_t> ints;
  std::vector<float> floats;
  std::vector<std::string> texts;
};

// Allocates memory for one batch, e.g. pinned; the pointer's deleter frees it. Null: none left.
using BufferAllocator = std::function<std::shared_ptr<void>(size_t bytes)>;

// Page-aligned ordinary memory.
std::shared_ptr<void> host_buffer(size_t bytes);

// One reused buffer and its metadata. Belongs to one thread at a time.
struct BatchSlot {
  BatchSlot(const BatchLayout& layout, const std::vector<SideColumn>& columns,
            const BufferAllocator& allocate);

  std::shared_ptr<void> buffer;
  uint64_t batch_position = 0;      // of the global batch
  uint64_t position = 0;            // of this rank's first clip
  std::vector<OrderEntry> entries;  // as read: a replacement has its own clip id
  std::vector<uint32_t> by_clip;    // clips of the batch in the order they are read
  std::vector<int64_t> labels;
  std::vector<SideBatch> side;
  std::vector<std::string> replaced;  // a line for each clip that another replaced
  // The error that Loader::next() throws when it reaches this batch.
  bool failed = false;
  Code code = Code::kOk;
  std::string message;
};

// A handle to a batch. Copies share the buffer, which is returned to the loader when the last copy
// is destroyed, on any thread, even after the loader is destroyed.
struct Batch {
  uint64_t batch_position = 0;  // clips seen by all ranks before this step
  uint64_t position = 0;        // of the first clip here
  BatchLayout layout;
  uint8_t* frames = nullptr;              // layout.bytes; the consumer may overwrite it
  std::span<const OrderEntry> clips;      // epoch, clip id, draw, flip
  std::span<const int64_t> labels;        // -1: none
  std::span<const std::string> replaced;  // a line for each clip that another replaced
  std::span<const SideBatch> side;        // the columns of loader.side; not changed by flips
  std::shared_ptr<const void> lease;      // keeps the buffer
};

}  // namespace lf
