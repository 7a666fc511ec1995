#include "data/store/store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <mutex>
#include <unordered_map>

#include "base/crc32c.h"
#include "base/error.h"
#include "data/store/layout.h"

namespace lf {
namespace {

constexpr const char* kRepair = "; run `lastframe verify STORE --repair`";

// An open shard with the tables that every read needs. Uses descriptors and preadv, not InFile: a
// clip is one system call, and a file that shrinks is an error, not a SIGBUS. With loader.read:
// MMAP clips are copied out of a mapping instead, which saves that call; the size is checked
// before.
class OpenShard {
 public:
  OpenShard(const std::string& store, const Layout& layout, const ShardRecord& record,
            uint64_t number, ReadMode mode)
      : name_(str("store ", printable(store), ", shard ", shard_name(number))),
        layout_(layout),
        record_(record) {
    const std::string path = shard_path(store, number);
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd_ < 0) refuse_open(errno);
    try {
      check_file();
      read_table();
      if (mode == MMAP) map();
    } catch (...) {
      ::close(fd_);
      throw;
    }
  }
  OpenShard(const OpenShard&) = delete;
  OpenShard& operator=(const OpenShard&) = delete;
  ~OpenShard() {
    if (mapping_ != nullptr) ::munmap(mapping_, record_.bytes());
    ::close(fd_);
  }

  uint64_t item(uint64_t row) const { return items_[row]; }
  int64_t label(uint64_t row) const { return labels_[row]; }
  uint32_t crc(uint64_t row, size_t column) const {
    return crc_[row * layout_.checksums() + column];
  }
  uint64_t address(size_t dataset) const { return record_.address(static_cast<int>(dataset)); }
  const ShardRecord& record() const { return record_; }

  // Reads `first_size` bytes into `first` and the `second_size` bytes after them into `second`.
  void read(uint64_t offset, void* first, size_t first_size, void* second = nullptr,
            size_t second_size = 0) const {
    if (mapping_ != nullptr) {
      std::memcpy(first, mapped(offset, first_size), first_size);
      if (second_size > 0) {
        std::memcpy(second, mapped(offset + first_size, second_size), second_size);
      }
      return;
    }
    iovec parts[2] = {{first, first_size}, {second, second_size}};
    iovec* at = parts;
    int count = second_size > 0 ? 2 : 1;
    while (count > 0) {
      if (at->iov_len == 0) {
        ++at;
        --count;
        continue;
      }
      const ssize_t n = ::preadv(fd_, at, count, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(Code::kData, name_, " cannot be read: ", std::strerror(errno));
      if (n == 0) fail(Code::kData, name_, " ends at byte ", offset, "; truncated?", kRepair);
      offset += static_cast<uint64_t>(n);
      for (auto left = static_cast<size_t>(n); left > 0;) {
        const size_t step = std::min(left, at->iov_len);
        at->iov_base = static_cast<char*>(at->iov_base) + step;
        at->iov_len -= step;
        left -= step;
        if (at->iov_len == 0) {
          ++at;
          --count;
        }
      }
    }
  }

  void check(uint64_t clip, uint64_t row, size_t column, const void* data, size_t size) const {
    compare(clip, row, column, crc32c(data, size));
  }

  // Part of a clip: its destination, and the column of its checksum.
  struct Part {
    void* into;
    size_t size;
    size_t column;
  };

  // Reads and checks `first` and, if given, `second`, which follows it in the file.
  void read_checked(uint64_t clip, uint64_t row, uint64_t offset, const Part& first,
                    const Part& second = {nullptr, 0, 0}) const {
    if (mapping_ == nullptr) read(offset, first.into, first.size, second.into, second.size);
    for (const Part* part : {&first, &second}) {
      if (part->into == nullptr) continue;
      if (mapping_ == nullptr) {
        check(clip, row, part->column, part->into, part->size);
      } else {  // one pass: the checksum is computed while the copy waits for memory
        compare(clip, row, part->column,
                crc32c_copy(part->into, mapped(offset, part->size), part->size));
      }
      offset += part->size;
    }
  }

  // Row `row` of the text column whose offsets are dataset `first`.
  std::string text(uint64_t row, size_t first) const {
    uint64_t range[2];
    read(address(first) + row * sizeof(uint64_t), range, sizeof range);
    if (range[0] > range[1] || range[1] > layout_.rows(first + 1, record_) ||
        range[1] - range[0] > kLongestText) {
      fail(Code::kData, name_, ": row ", row, " of ", layout_.datasets()[first].name, " is damaged",
           kRepair);
    }
    std::string text(range[1] - range[0], '\0');
    read(address(first + 1) + range[0], text.data(), text.size());
    return text;
  }

 private:
  [[noreturn]] void refuse_open(int error) const {
    if (error == EMFILE || error == ENFILE) {
      fail(Code::kUsage, name_, " cannot be opened: ", std::strerror(error),
           "; raise the limit (ulimit -n)");
    }
    if (error == ENOENT) fail(Code::kData, name_, " is missing", kRepair);
    if (error == ELOOP) {
      fail(Code::kData, name_, " is a symbolic link, expected a file", kRepair);
    }
    fail(Code::kData, name_, " cannot be opened: ", std::strerror(error));
  }

  void check_file() const {
    struct stat status {};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
      fail(Code::kData, name_, " is not a regular file", kRepair);
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size != record_.bytes()) {
      fail(Code::kData, name_, " has ", human_count(size), " bytes, the index says ",
           human_count(record_.bytes()), size < record_.bytes() ? "; truncated?" : "", kRepair);
    }
  }

  void map() {
    void* mapping = ::mmap(nullptr, record_.bytes(), PROT_READ, MAP_SHARED, fd_, 0);
    if (mapping == MAP_FAILED) {
      fail(Code::kUsage, name_, " cannot be mapped into memory: ", std::strerror(errno),
           "; use loader.read: PREAD");
    }
    mapping_ = mapping;
  }

  void compare(uint64_t clip, uint64_t row, size_t column, uint32_t found) const {
    if (found != crc(row, column)) [[unlikely]] {
      fail(Code::kData, name_, ", clip ", clip, ": the checksum of its ",
           layout_.checksum_names()[column], " is wrong; flipped bits", kRepair);
    }
  }

  // Addresses were checked against the size of the file, offsets within a row may be damaged.
  const char* mapped(uint64_t offset, size_t size) const {
    if (size > record_.bytes() || offset > record_.bytes() - size) {
      fail(Code::kData, name_, " ends before byte ", offset, " + ", size, "; damaged", kRepair);
    }
    return static_cast<const char*>(mapping_) + offset;
  }

  void read_table() {
    crc_.resize(record_.clips() * layout_.checksums());
    items_.resize(record_.clips());
    labels_.resize(record_.clips());
    uint32_t crc = 0;
    const auto fill = [&](size_t dataset, auto& rows) {
      const size_t bytes = rows.size() * sizeof(rows[0]);
      read(address(dataset), rows.data(), bytes);
      crc = crc32c(rows.data(), bytes, crc);
    };
    fill(Layout::kCrc, crc_);
    fill(Layout::kItems, items_);
    fill(Layout::kLabels, labels_);
    if (crc != record_.table_crc()) {
      fail(Code::kData, name_,
           ": its checksums, items and labels do not match the index; flipped bits, or another "
           "shard under this name",
           kRepair);
    }
  }

  std::string name_;
  const Layout& layout_;
  const ShardRecord& record_;
  int fd_ = -1;
  void* mapping_ = nullptr;
  std::vector<uint32_t> crc_;
  std::vector<uint64_t> items_;
  std::vector<int64_t> labels_;
};

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

ClipShape image_shape(const StoreIndex& index) {
  return {1, static_cast<int>(index.height()), static_cast<int>(index.width()),
          static_cast<int>(index.channels())};
}

// The recipe for the index's shape. For a store of videos it holds T and no operator.
Recipe recipe_of(const StoreIndex& index, const std::string& folder) {
  ClipShape shape = image_shape(index);
  try {
    if (index.from_videos()) shape.frames = static_cast<int>(index.frames());
    Recipe recipe(index.recipe(), shape);
    const size_t element_bytes = recipe.element() == Element::kUint8 ? 1 : 2;
    if (recipe.frames() != static_cast<int>(index.frames()) ||
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
  ClipShape clip_shape() const override {
    ClipShape shape = image_shape(index_);
    shape.frames = static_cast<int>(index_.frames());
    return shape;
  }
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
    const Place place = locate(clip);
    return place.shard->label(place.row);
  }

  std::string name(uint64_t clip) const override {
    const Place place = locate(clip);
    return checked_text(clip, place, layout_.names(), layout_.name_checksum());
  }

  SideValue side(uint64_t clip, size_t column) const override {
    LF_CHECK(column < static_cast<size_t>(index_.columns_size()));
    const Place place = locate(clip);
    const StoreColumn& kind = index_.columns(static_cast<int>(column));
    const size_t dataset = layout_.column(column), checksum = layout_.column_checksum(column);
    SideValue value;
    const auto fill = [&](auto& values) {
      values.resize(kind.width());
      const size_t bytes = values.size() * sizeof(values[0]);
      place.shard->read(place.shard->address(dataset) + place.row * bytes, values.data(), bytes);
      place.shard->check(clip, place.row, checksum, values.data(), bytes);
    };
    switch (kind.kind()) {
      case StoreColumn::INT64:
        fill(value.ints);
        break;
      case StoreColumn::FLOAT:
        fill(value.floats);
        break;
      case StoreColumn::TEXT:
        value.text = checked_text(clip, place, dataset, checksum);
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
  struct Place {
    uint64_t number, row;
    std::shared_ptr<const OpenShard> shard;
  };

  Place locate(uint64_t clip) const {
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

  std::string checked_text(uint64_t clip, const Place& place, size_t dataset,
                           size_t checksum) const {
    std::string text = place.shard->text(place.row, dataset);
    place.shard->check(clip, place.row, checksum, text.data(), text.size());
    return text;
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
    fail(Code::kData, printable(index_path(folder)), " records no shard", kRepair);
  }
  if (!lies_under(folder, shards_folder(folder))) {
    fail(Code::kData, "the store ", printable(folder), ": its folder 'shards' leads out of it");
  }
  return std::make_shared<const StoreOnDisk>(folder, std::move(index), open_shards, mode);
}

}  // namespace lf
