#include "data/loader/loader.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "data/loader/flip.h"

namespace lf {
namespace {

constexpr uint64_t kLastPosition = uint64_t{1} << 62;  // leaves room to count on
// Replacements tried for one damaged clip before the store is given up.
constexpr uint32_t kReplacements = 16;
// Batches the consumer may hold while it asks for the next.
constexpr size_t kHeld = 2;

OrderOptions order_options(const Store& store, const LoaderConfig& config) {
  OrderOptions options;
  options.draws = store.index().draws();
  options.flip = config.flip();
  options.shuffle = config.shuffle();
  return options;
}

BatchLayout layout_of(const Store& store, uint64_t clips) {
  const bool bytes = store.index().element_bytes() == 1;
  return batch_layout(clips, store.clip_shape(), bytes ? Element::kUint8 : Element::kFp16);
}

std::vector<SideColumn> side_columns_of(const Store& store) {
  using Kind = SideColumn::Kind;
  std::vector<SideColumn> columns;
  for (const StoreColumn& column : store.index().columns()) {
    const Kind kind = column.kind() == StoreColumn::INT64   ? Kind::kInt64
                      : column.kind() == StoreColumn::FLOAT ? Kind::kFloat
                                                            : Kind::kText;
    columns.push_back({kind, column.name(), static_cast<int>(column.width())});
  }
  return columns;
}

std::vector<size_t> find_columns(const std::vector<SideColumn>& columns, const LoaderConfig& config,
                                 const std::string& folder) {
  std::vector<std::string> names;
  for (const SideColumn& column : columns) names.push_back(column.name);
  std::vector<size_t> found;
  for (const std::string& wanted : config.side()) {
    const auto at = std::find(names.begin(), names.end(), wanted);
    if (at == names.end()) {
      fail(Code::kUsage, "loader.side: store ", printable(folder), " has no side column '",
           printable(wanted), "'", did_you_mean(wanted, names),
           " It has: ", names.empty() ? "none" : join(names, ", "));
    }
    found.push_back(static_cast<size_t>(at - names.begin()));
  }
  return found;
}

}  // namespace

LoaderConfig in_order(LoaderConfig config) {
  config.set_shuffle(false);
  config.set_flip(0);
  return config;
}

Loader::Loader(std::shared_ptr<const Store> store, const LoaderConfig& config,
               const LoaderShare& share, const BufferAllocator& allocate)
    : store_(std::move(store)),
      config_(config),
      share_(share),
      slice_(slice_of_rank(share.batch, share.rank, share.ranks)),
      layout_(layout_of(*store_, slice_.count)),
      order_(share.seed, store_->clips(), order_options(*store_, config)) {
  const std::vector<SideColumn> columns = side_columns_of(*store_);
  side_columns_ = find_columns(columns, config_, store_->folder());
  std::vector<SideColumn> wanted;
  for (const size_t column : side_columns_) wanted.push_back(columns[column]);
  const size_t slots = static_cast<size_t>(config_.prefetch()) + kHeld;
  queue_ = std::make_shared<BatchQueue>(share_.batch, slots, layout_, wanted, allocate);
  try {
    for (int i = 0; i < config_.threads(); ++i) threads_.emplace_back([this] { run(); });
  } catch (const std::system_error& error) {
    queue_->stop();
    for (std::thread& thread : threads_) thread.join();
    fail(Code::kUsage, "thread ", threads_.size() + 1, " of ", config_.threads(),
         " of the loader could not be started (", error.code().message(),
         "); lower loader.threads");
  }
}

Loader::~Loader() {
  queue_->stop();
  for (std::thread& thread : threads_) thread.join();
}

Batch Loader::next() {
  const Clock::time_point begin = Clock::now();
  if (threads_.empty() && !queue_->ready()) {
    const BatchQueue::Claim claim = queue_->claim(false);
    if (claim.slot != nullptr) fill_and_publish(claim);
  }
  Batch batch = queue_->take();
  // Logged and counted here rather than in the threads, so that they follow the order.
  for (const std::string& line : batch.replaced) LF_WARN(line);
  counts_.skipped += batch.replaced.size();
  counts_.wait_seconds += seconds_since(begin);
  counts_.clips += layout_.clips;
  counts_.bytes +=
      layout_.clips * ((share_.last_frames ? 0 : layout_.corrupted_bytes) + layout_.clean_bytes);
  return batch;
}

void Loader::seek(uint64_t position) {
  if (position > kLastPosition) {
    fail(Code::kUsage, "the loader cannot seek to position ", position, "; the last one is ",
         kLastPosition);
  }
  queue_->restart(position);
}

void Loader::run() {
  for (;;) {
    const BatchQueue::Claim claim = queue_->claim(true);
    if (claim.slot == nullptr) return;
    fill_and_publish(claim);
  }
}

// Errors are passed as text, not as exceptions, which threads would have to share.
void Loader::fill_and_publish(const BatchQueue::Claim& claim) {
  BatchSlot& slot = *claim.slot;
  slot.failed = false;
  try {
    fill(claim);
  } catch (const Error& error) {
    slot.failed = true;
    slot.code = error.code();
    slot.message = error.what();
  } catch (const std::exception& error) {
    slot.failed = true;
    slot.code = Code::kBug;
    slot.message = str("reading the batch at position ", claim.position, ": ", error.what());
  }
  queue_->publish(claim);
}

// Reads in order of clip id, which is the order on disk: neighbours share a shard.
void Loader::fill(const BatchQueue::Claim& claim) {
  BatchSlot& slot = *claim.slot;
  slot.batch_position = claim.position;
  slot.position = claim.position + slice_.first;
  slot.replaced.clear();
  order_.fill(slot.position, slot.entries);
  std::iota(slot.by_clip.begin(), slot.by_clip.end(), 0U);
  std::sort(slot.by_clip.begin(), slot.by_clip.end(),
            [&](uint32_t a, uint32_t b) { return slot.entries[a].clip < slot.entries[b].clip; });
  for (const uint32_t i : slot.by_clip) {
    if (!queue_->wanted(claim)) return;  // and publish() will drop the batch
    if (config_.bad_clip() == LoaderConfig::SKIP) {
      load_or_replace(slot, i);
    } else {
      load(slot, i);
    }
    if (slot.entries[i].flip && !share_.last_frames) flip(slot, i);
  }
}

void Loader::load(BatchSlot& slot, size_t i) {
  const OrderEntry& entry = slot.entries[i];
  auto* frames = static_cast<uint8_t*>(slot.buffer.get());
  store_->read(entry.clip, entry.draw,
               share_.last_frames ? nullptr : frames + i * layout_.corrupted_stride,
               frames + layout_.clean_offset + i * layout_.clean_stride);
  slot.labels[i] = store_->label(entry.clip);
  if (!slot.side.empty()) load_side(slot, i, entry.clip);
}

void Loader::load_or_replace(BatchSlot& slot, size_t i) {
  const uint64_t position = slot.position + i;
  for (uint32_t attempt = 0;; ++attempt) {
    try {
      load(slot, i);
      return;
    } catch (const Error& error) {
      if (error.code() != Code::kData) throw;
      if (attempt == kReplacements) {
        fail(Code::kData, "position ", position, ": the clip and ", kReplacements,
             " others tried in its place are damaged, the last: ", error.what());
      }
      const uint64_t replacement = order_.substitute(position, attempt);
      slot.replaced.push_back(str("clip ", slot.entries[i].clip, " at position ", position,
                                  " is replaced by clip ", replacement,
                                  " (loader.bad_clip: SKIP): ", error.what()));
      slot.entries[i].clip = replacement;
    }
  }
}

void Loader::load_side(BatchSlot& slot, size_t i, uint64_t clip) {
  for (size_t c = 0; c < side_columns_.size(); ++c) {
    SideValue value = store_->side(clip, side_columns_[c]);
    SideBatch& batch = slot.side[c];
    const auto width = static_cast<size_t>(batch.column.width);
    const bool fits =
        batch.column.kind == SideColumn::Kind::kText ||
        (batch.column.kind == SideColumn::Kind::kInt64 ? value.ints.size() : value.floats.size()) ==
            width;
    LF_CHECK(fits, "side column ", batch.column.name, " of clip ", clip, " is not ", width,
             " wide");
    switch (batch.column.kind) {
      case SideColumn::Kind::kInt64:
        std::copy(value.ints.begin(), value.ints.end(), &batch.ints[i * width]);
        break;
      case SideColumn::Kind::kFloat:
        std::copy(value.floats.begin(), value.floats.end(), &batch.floats[i * width]);
        break;
      case SideColumn::Kind::kText:
        batch.texts[i] = std::move(value.text);
        break;
    }
  }
}

void Loader::flip(BatchSlot& slot, size_t i) const {
  auto* frames = static_cast<uint8_t*>(slot.buffer.get());
  const ClipShape& shape = layout_.shape;
  const auto height = static_cast<size_t>(shape.height), width = static_cast<size_t>(shape.width);
  flip_rows(frames + i * layout_.corrupted_stride, static_cast<size_t>(shape.frames - 1) * height,
            width, layout_.pixel_bytes());
  flip_rows(frames + layout_.clean_offset + i * layout_.clean_stride, height, width,
            static_cast<size_t>(shape.channels));
}

}  // namespace lf
