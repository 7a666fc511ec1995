// A store in memory whose clips are formulas, so that every byte a loader delivers is known.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "data/loader/loader.h"

namespace lf {

using namespace std::chrono_literals;

// Clip c, draw d, byte i of its frames (images count on after the corrupted frames).
inline uint8_t pixel(uint64_t clip, uint32_t draw, size_t i) {
  return static_cast<uint8_t>(clip * 31 + draw * 101 + i * 7 + i / 100);
}

class FormulaStore : public Store {
 public:
  explicit FormulaStore(uint64_t clips, ClipShape shape = {4, 3, 5, 3}, uint32_t element_bytes = 1,
                        uint32_t draws = 1)
      : clips_(clips), shape_(shape), element_bytes_(element_bytes) {
    index_.set_draws(draws);
    index_.set_element_bytes(element_bytes);
    add_column("number", StoreColumn::INT64, 1);
    add_column("where", StoreColumn::FLOAT, 2);
    add_column("caption", StoreColumn::TEXT, 1);
  }

  const StoreIndex& index() const override { return index_; }
  const std::string& folder() const override { return folder_; }
  uint64_t clips() const override { return clips_; }
  ClipShape clip_shape() const override { return shape_; }
  const Recipe& recipe() const override { fail(Code::kBug, "the loader needs no recipe"); }
  uint64_t shard_of(uint64_t) const override { return 0; }
  uint64_t first_clip(uint64_t shard) const override { return shard == 0 ? 0 : clips_; }

  size_t image_bytes() const { return shape_.bytes() / static_cast<size_t>(shape_.frames); }
  size_t corrupted_bytes() const { return (shape_.bytes() - image_bytes()) * element_bytes_; }

  void read(uint64_t clip, uint32_t draw, void* corrupted, uint8_t* clean) const override {
    ++reads;
    ASSERT_LT(clip, clips_);
    if (delay > 0ms) std::this_thread::sleep_for(delay);
    if (bad.contains(clip)) fail(Code::kData, "shard 00001.h5: clip ", clip, " has the wrong CRC");
    if (clip == broken) throw std::runtime_error("something unexpected");
    if (clip == lost) fail(Code::kStorage, "the disk went away");
    const size_t split = corrupted_bytes();
    for (size_t i = 0; i < split && corrupted != nullptr; ++i) {
      static_cast<uint8_t*>(corrupted)[i] = pixel(clip, draw, i);
    }
    for (size_t i = 0; i < image_bytes(); ++i) clean[i] = pixel(clip, draw, split + i);
  }
  ClipKey key(uint64_t clip, uint32_t draw) const override { return {0, clip, draw}; }
  int64_t label(uint64_t clip) const override { return static_cast<int64_t>(clip % 10); }
  std::string name(uint64_t clip) const override { return str("clip ", clip); }
  SideValue side(uint64_t clip, size_t column) const override {
    SideValue value;
    if (column == 0) value.ints = {static_cast<int64_t>(clip) * 3};
    if (column == 1) value.floats = {static_cast<float>(clip), static_cast<float>(clip) / 2};
    if (column == 2) value.text = str("caption of ", clip);
    return value;
  }

  mutable std::atomic<int> reads{0};
  std::chrono::milliseconds delay{0};
  std::set<uint64_t> bad;
  std::optional<uint64_t> broken, lost;

 private:
  void add_column(const char* name, StoreColumn::Kind kind, uint32_t width) {
    StoreColumn* column = index_.add_columns();
    column->set_name(name);
    column->set_kind(kind);
    column->set_width(width);
  }

  uint64_t clips_;
  ClipShape shape_;
  uint32_t element_bytes_;
  StoreIndex index_;
  std::string folder_ = "formulas";
};

}  // namespace lf
