#include "data/store/store.h"

#include <sys/resource.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <unordered_map>

#include "base/error.h"
#include "data/store/layout.h"
#include "data/store/open_shard.h"

namespace lf {
namespace {

size_t descriptors_to_use() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return std::clamp<size_t>(limit.rlim_cur / 4, 16, 1024);
}

// The `most` shards used most recently.
class OpenShards {
 public:
  explicit OpenShards(size_t most) : most_(most) {}

  template <typename Open>
  std::shared_ptr<const OpenShard> get(uint64_t number, const Open& open) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (const auto found = found_.find(number); found != found_.end()) {
        if (found->second != order_.begin()) order_.splice(order_.begin(), order_, found->second);
        return found->second->shard;
      }
    }
    // Opened outside the lock, so that threads open different shards at once; two threads may open
    // the same shard, and one of the two is dropped.
    std::shared_ptr<const OpenShard> shard = open();
    std::shared_ptr<const OpenShard> evicted;  // closed after the lock is released
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = found_.find(number); found != found_.end()) return found->second->shard;
    order_.push_front({number, shard});
    found_[number] = order_.begin();
    if (order_.size() > most_) {
      evicted = std::move(order_.back().shard);
      found_.erase(order_.back().number);
      order_.pop_back();
    }
    return shard;
  }

 private:
  struct Entry {
    uint64_t number;
    std::shared_ptr<const OpenShard> shard;
  };
  size_t most_;
  std::mutex mutex_;
  std::list<Entry> order_;
  std::unordered_map<uint64_t, std::list<Entry>::iterator> found_;
};

// The recipe for the index's shape. For a store of videos it holds T and no operator.
Recipe recipe_of(const StoreIndex& index, const std::string& folder) {
  const ClipShape clip = clip_shape_of(index);
  try {
    Recipe recipe(index.recipe(), index.from_videos() ? clip : clip.image());
    const size_t element_bytes = recipe.element() == Element::kUint8 ? 1 : 2;
    if (recipe.frames() != clip.frames ||
        (index.mode() == RECOMPUTED && recipe.canonical() != index.recipe_text()) ||
        element_bytes != index.element_bytes()) {
      fail(Code::kData, "it now reads '", printable(recipe.canonical()), "', it was '",
           printable(index.recipe_text()), "'");
    }
    return recipe;
  } catch (const Error& error) {
    fail(Code::kData, "store ", printable(folder),
         ": this program would not carry out the recipe in its index as it was built (",
         error.what(), "); use the program that built it");
  }
}

class StoreOnDisk : public Store {
 public:
  StoreOnDisk(const std::string& folder, StoreIndex index, size_t open_shards, ReadMode mode)
      : folder_(folder),
        mode_(mode),
        index_(std::move(index)),
        layout_(index_),
        recipe_(recipe_of(index_, folder)),
        first_clip_(static_cast<size_t>(index_.shards_size()) + 1),
        shards_(open_shards > 0 ? open_shards : descriptors_to_use()) {
    for (int s = 0; s < index_.shards_size(); ++s) {
      const auto at = static_cast<size_t>(s);
      first_clip_[at + 1] = first_clip_[at] + index_.shards(s).clips();
    }
    uint64_t shard = 0;
    for (const StorePart& part : index_.parts()) {
      shard += part.shards();
      part_end_.push_back(shard);
    }
    LF_CHECK(recipe_.corrupted_bytes() == layout_.corrupted_bytes());
    LF_CHECK(recipe_.clean_bytes() == layout_.image_bytes());
  }

  const StoreIndex& index() const override { return index_; }
  const std::string& folder() const override { return folder_; }
  uint64_t clips() const override { return first_clip_.back(); }
  ClipShape clip_shape() const override { return clip_shape_of(index_); }
  const Recipe& recipe() const override { return recipe_; }

  void read(uint64_t clip, uint32_t draw, void* corrupted, uint8_t* clean) const override {
    const auto [number, row, shard] = locate(clip);
    if (index_.draws() > 0) draw %= index_.draws();
    const uint32_t held = layout_.stored() ? draw : 0;
    const OpenShard::Part frames{corrupted, layout_.corrupted_bytes(),
                                 layout_.frames_checksum(held)};
    const OpenShard::Part image{clean, layout_.image_bytes(), Layout::kImageChecksum};
    const uint64_t image_at =
        shard->address(layout_.image_dataset()) + layout_.image_offset(row, held);
    if (corrupted != nullptr && layout_.stored()) {
      const uint64_t frames_at =
          shard->address(layout_.frames_dataset()) + layout_.frames_offset(row, held);
      if (layout_.whole()) {
        shard->read_checked(clip, row, frames_at, frames, image);
      } else {
        shard->read_checked(clip, row, frames_at, frames);
        shard->read_checked(clip, row, image_at, image);
      }
    } else {
      shard->read_checked(clip, row, image_at, image);
    }
    if (corrupted != nullptr && !layout_.stored()) {
      recipe_.apply(clean, {part_of(number).seed(), shard->item(row), draw}, corrupted);
    }
  }

  ClipKey key(uint64_t clip, uint32_t draw) const override {
    const auto [number, row, shard] = locate(clip);
    if (index_.draws() > 0) draw %= index_.draws();
    return {part_of(number).seed(), shard->item(row), draw};
  }

  int64_t label(uint64_t clip) const override {
    const Location location = locate(clip);
    return location.shard->label(location.row);
  }

  std::string name(uint64_t clip) const override {
    const Location location = locate(clip);
    return location.shard->read_text(clip, location.row, layout_.names(), layout_.name_checksum());
  }

  SideValue side(uint64_t clip, size_t column) const override {
    LF_CHECK(column < static_cast<size_t>(index_.columns_size()));
    const Location location = locate(clip);
    const StoreColumn& kind = index_.columns(static_cast<int>(column));
    const size_t dataset = layout_.column(column), checksum = layout_.column_checksum(column);
    SideValue value;
    const auto fill = [&](auto& values) {
      values.resize(kind.width());
      const size_t bytes = values.size() * sizeof(values[0]);
      location.shard->read_checked(clip, location.row,
                                   location.shard->address(dataset) + location.row * bytes,
                                   {values.data(), bytes, checksum});
    };
    switch (kind.kind()) {
      case StoreColumn::INT64:
        fill(value.ints);
        break;
      case StoreColumn::FLOAT:
        fill(value.floats);
        break;
      case StoreColumn::TEXT:
        value.text = location.shard->read_text(clip, location.row, dataset, checksum);
        break;
    }
    return value;
  }

  uint64_t shard_of(uint64_t clip) const override {
    LF_CHECK(clip < clips(), "clip ", clip, " of ", clips());
    // Most shards hold as many clips as the first: guess, and search only if the guess is wrong.
    const uint64_t per_shard = std::max<uint64_t>(1, first_clip_[1]);
    const uint64_t guess = std::min(clip / per_shard, first_clip_.size() - 2);
    if (first_clip_[guess] <= clip && clip < first_clip_[guess + 1]) return guess;
    const auto after = std::upper_bound(first_clip_.begin(), first_clip_.end(), clip);
    return static_cast<uint64_t>(after - first_clip_.begin()) - 1;
  }
  uint64_t first_clip(uint64_t shard) const override { return first_clip_[shard]; }

 private:
  struct Location {
    uint64_t number, row;
    std::shared_ptr<const OpenShard> shard;
  };

  Location locate(uint64_t clip) const {
    const uint64_t number = shard_of(clip);
    return {number, clip - first_clip_[number], shards_.get(number, [&] {
              return std::make_shared<const OpenShard>(
                  folder_, layout_, index_.shards(static_cast<int>(number)), number, mode_);
            })};
  }

  const StorePart& part_of(uint64_t shard) const {
    const auto part = std::upper_bound(part_end_.begin(), part_end_.end(), shard);
    return index_.parts(static_cast<int>(part - part_end_.begin()));
  }

  std::string folder_;
  ReadMode mode_;
  StoreIndex index_;
  Layout layout_;
  Recipe recipe_;
  std::vector<uint64_t> first_clip_;
  std::vector<uint64_t> part_end_;
  mutable OpenShards shards_;
};

}  // namespace

std::shared_ptr<const Store> Store::open(const std::string& folder, size_t open_shards,
                                         ReadMode mode) {
  FileSystem& files = real_file_system();
  if (!files.exists(index_path(folder))) {
    if (files.exists(plan_path(folder))) {
      fail(Code::kUsage, "the store ", printable(folder),
           " is not finished: it has no index yet; run its `lastframe build` again to resume");
    }
    fail(Code::kUsage, "there is no store at ", printable(folder), "; `lastframe build` makes one");
  }
  StoreIndex index = read_index(files, index_path(folder));
  if (index.shards_size() == 0) {
    fail(Code::kData, printable(index_path(folder)), " records no shard", kRepairAdvice);
  }
  if (!lies_under(folder, shards_folder(folder))) {
    fail(Code::kData, "the store ", printable(folder), ": its folder 'shards' leads out of it");
  }
  return std::make_shared<const StoreOnDisk>(folder, std::move(index), open_shards, mode);
}

}  // namespace lf
