#include "data/store/layout.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"
#include "data/store/little_endian.h"

namespace lf {
namespace {

constexpr std::string_view kMagic = "LFSTORE1";
constexpr uint64_t kLargestIndex = uint64_t{1} << 30;
constexpr uint64_t kMostShards = 10'000'000;
constexpr uint64_t kMostClips = uint64_t{1} << 24;     // in a shard
constexpr uint64_t kLargestFrame = uint64_t{1} << 26;  // bytes of its image, such as 4096x4096x3
constexpr uint64_t kLargestClip = uint64_t{1} << 32;   // bytes of a clip on disk, all draws

}  // namespace

std::string shard_name(uint64_t shard) {
  char name[32];
  std::snprintf(name, sizeof name, "%05llu.h5", static_cast<unsigned long long>(shard));
  return name;
}
std::string shards_folder(const std::string& store) { return store + "/shards"; }
std::string shard_path(const std::string& store, uint64_t shard) {
  return shards_folder(store) + "/" + shard_name(shard);
}
std::string index_path(const std::string& store) { return store + "/index"; }
std::string plan_path(const std::string& store) { return store + "/plan"; }
std::string quarantine_path(const std::string& store) { return store + "/quarantine.txt"; }
std::string building_folder(const std::string& store) { return store + "/building"; }

size_t Dataset::type_bytes() const {
  switch (type) {
    case Type::kUint8:
      return 1;
    case Type::kFp16:
      return 2;
    case Type::kUint32:
    case Type::kFloat32:
      return 4;
    case Type::kInt64:
    case Type::kUint64:
      return 8;
  }
  return 0;
}

uint64_t Dataset::row_bytes() const {
  uint64_t bytes = type_bytes();
  for (const uint64_t extent : row) bytes *= extent;
  return bytes;
}

Layout::Layout(const StoreIndex& index) {
  const ClipShape shape = clip_shape_of(index);
  const auto frames = static_cast<uint64_t>(shape.frames);
  const std::vector<uint64_t> image = {index.height(), index.width(), index.channels()};
  held_draws_ = index.mode() == STORED ? index.draws() : 0;
  whole_ = index.element_bytes() == 1 || frames == 1;
  image_bytes_ = shape.image().bytes();
  corrupted_bytes_ = (frames - 1) * image_bytes_ * index.element_bytes();

  checksum_names_ = {"image"};
  for (uint32_t d = 0; d < held_draws_; ++d) checksum_names_.push_back(str("frames.", d));
  checksum_names_.emplace_back("name");
  for (const StoreColumn& column : index.columns()) {
    checksum_names_.push_back("side." + column.name());
  }

  using Type = Dataset::Type;
  datasets_.push_back({"crc", Type::kUint32, {checksum_names_.size()}});
  datasets_.push_back({"items", Type::kUint64, {}});
  datasets_.push_back({"labels", Type::kInt64, {}});
  if (stored()) {
    std::vector<uint64_t> row = image;
    row.insert(row.begin(), whole_ ? frames : frames - 1);
    if (held_draws_ > 1) row.insert(row.begin(), held_draws_);
    datasets_.push_back({"frames", whole_ ? Type::kUint8 : Type::kFp16, row, true});
  }
  if (!stored() || !whole_) {
    datasets_.push_back({"images", Type::kUint8, image, true});
  }
  names_ = datasets_.size();
  add_text("names");
  for (const StoreColumn& column : index.columns()) {
    columns_.push_back(datasets_.size());
    const std::string name = "side." + column.name();
    if (column.kind() == StoreColumn::TEXT) {
      add_text(name);
    } else {
      const Type type = column.kind() == StoreColumn::INT64 ? Type::kInt64 : Type::kFloat32;
      datasets_.push_back({name, type, {column.width()}});
    }
  }
}

void Layout::add_text(const std::string& name) {
  Dataset offsets{name + ".offsets", Dataset::Type::kUint64, {}};
  offsets.offsets = true;
  Dataset bytes{name + ".bytes", Dataset::Type::kUint8, {}};
  bytes.text = static_cast<int>(texts_++);
  datasets_.push_back(offsets);
  datasets_.push_back(bytes);
}

uint64_t Layout::frames_offset(uint64_t clip, uint32_t draw) const {
  return (clip * held_draws_ + draw) * (corrupted_bytes_ + (whole_ ? image_bytes_ : 0));
}

uint64_t Layout::image_offset(uint64_t clip, uint32_t draw) const {
  if (!stored() || !whole_) return clip * image_bytes_;
  return frames_offset(clip, draw) + corrupted_bytes_;
}

uint64_t Layout::rows(size_t d, const ShardRecord& record) const {
  const Dataset& dataset = datasets_[d];
  if (dataset.text >= 0) return record.text_bytes(dataset.text);
  return record.clips() + (dataset.offsets ? 1 : 0);
}

uint64_t Layout::bytes(size_t d, const ShardRecord& record) const {
  return rows(d, record) * datasets_[d].row_bytes();
}

uint64_t Layout::table_bytes(const ShardRecord& record) const {
  return bytes(kCrc, record) + bytes(kItems, record) + bytes(kLabels, record);
}

void check_plan(const StoreIndex& index, const std::string& what) {
  if (index.format() > kStoreFormat) {
    fail(Code::kData, what, " has format ", index.format(), ", this program reads up to ",
         kStoreFormat, "; use a newer lastframe");
  }
  check_bounds(index, [&](const std::string& why) {
    fail(Code::kData, what, " is damaged or hostile: ", why, "; build the store again");
  });
}

void check_bounds(const StoreIndex& index, const std::function<void(const std::string&)>& refuse) {
  const auto within = [&](const char* name, uint64_t value, uint64_t low, uint64_t high) {
    if (value < low || value > high) {
      refuse(str(name, " is ", value, ", expected one in [", low, ", ", high, "]"));
    }
  };
  within("format", index.format(), 1, kStoreFormat);
  within("frames", index.frames(), 1, 4096);
  within("height", index.height(), 1, 65536);
  within("width", index.width(), 1, 65536);
  within("channels", index.channels(), 1, 64);
  within("element_bytes", index.element_bytes(), 1, 2);
  within("draws", index.draws(), index.mode() == STORED ? 1 : 0,
         index.mode() == STORED ? 1024 : 65536);
  const uint64_t image = uint64_t{index.height()} * index.width() * index.channels();
  within("bytes of a frame", image, 1, kLargestFrame);
  within(
      "bytes of a clip",
      image * index.frames() * index.element_bytes() * (index.mode() == STORED ? index.draws() : 1),
      1, kLargestClip);
  within("number of parts", static_cast<uint64_t>(index.parts_size()), 1, 1 << 20);
  within("number of columns", static_cast<uint64_t>(index.columns_size()), 0, 256);
  for (const StoreColumn& column : index.columns()) {
    if (!valid_column_name(column.name())) {
      refuse(str("it has a column named '", printable(column.name()), "'"));
    }
    within("width of a column", column.width(), 1, 1 << 20);
  }
  uint64_t shards = 0;
  for (const StorePart& part : index.parts()) {
    within("items of a part", part.items(), 1, uint64_t{1} << 48);
    within("items_per_shard", part.items_per_shard(), 1, kMostClips);
    within("shards of a part", part.shards(), 1, kMostShards);
    if ((part.items() - 1) / part.items_per_shard() + 1 != part.shards()) {
      refuse(str("a part of ", part.items(), " items has ", part.shards(), " shards"));
    }
    shards += part.shards();
    within("number of shards", shards, 1, kMostShards);
  }
}

void check_record(const Layout& layout, const ShardRecord& record, const std::string& what) {
  const auto refuse = [&](const auto&... why) {
    fail(Code::kData, what, " is damaged or hostile: ", why...,
         "; run `lastframe verify STORE --repair`");
  };
  if (record.clips() > kMostClips) refuse("it claims ", record.clips(), " clips");
  if (record.bytes() > uint64_t{1} << 56) refuse("it claims ", record.bytes(), " bytes");
  if (static_cast<size_t>(record.address_size()) != layout.datasets().size() ||
      static_cast<size_t>(record.text_bytes_size()) != layout.texts()) {
    refuse("it has ", record.address_size(), " datasets, expected ", layout.datasets().size());
  }
  for (const uint64_t bytes : record.text_bytes()) {
    if (bytes > record.bytes()) refuse("a text column is larger than its file");
  }
  // No product here overflows: rows < 2^56 of 1 byte, or <= 2^24 + 1 of < 2^33 bytes.
  for (size_t d = 0; d < layout.datasets().size(); ++d) {
    const uint64_t bytes = layout.bytes(d, record), address = record.address(static_cast<int>(d));
    if (bytes > record.bytes() || address > record.bytes() - bytes) {
      refuse("dataset ", layout.datasets()[d].name, " ends beyond the end of the file");
    }
  }
}

std::string encode_index(const StoreIndex& index) {
  std::string out(kMagic);
  index.AppendToString(&out);
  put_u32(out, crc32c(out.data(), out.size()));
  return out;
}

StoreIndex decode_index(std::string_view bytes, const std::string& path) {
  const std::string what = printable(path);
  const char* advice = "; run `lastframe verify STORE --repair` to rebuild it from the shards";
  if (bytes.size() < kMagic.size() + 4 || bytes.substr(0, kMagic.size()) != kMagic) {
    fail(Code::kData, what, " is not the index of a store, or its beginning is damaged", advice);
  }
  const size_t body = bytes.size() - 4;
  if (crc32c(bytes.data(), body) != get_u32(bytes.data() + body)) {
    fail(Code::kData, what, ": its checksum does not fit its ", bytes.size(),
         " bytes; flipped bits or truncated", advice);
  }
  StoreIndex index;
  if (!index.ParseFromArray(bytes.data() + kMagic.size(), static_cast<int>(body - kMagic.size()))) {
    fail(Code::kData, what, " is not the index of a store", advice);
  }
  check_plan(index, what);
  if (index.shards_size() > 0) {
    uint64_t expected = 0;
    for (const StorePart& part : index.parts()) expected += part.shards();
    if (static_cast<uint64_t>(index.shards_size()) != expected) {
      fail(Code::kData, what, " records ", index.shards_size(), " shards, its parts have ",
           expected, advice);
    }
  }
  const Layout layout(index);
  for (int s = 0; s < index.shards_size(); ++s) {
    check_record(layout, index.shards(s),
                 str(what, ": the record of shard ", shard_name(static_cast<uint64_t>(s))));
  }
  return index;
}

StoreIndex read_index(FileSystem& files, const std::string& path) {
  return decode_index(read_file(files, path, kLargestIndex), path);
}

ClipShape clip_shape_of(const StoreIndex& index) {
  return {static_cast<int>(index.frames()), static_cast<int>(index.height()),
          static_cast<int>(index.width()), static_cast<int>(index.channels())};
}

PartOfShard part_of_shard(const StoreIndex& index, uint64_t shard) {
  for (const StorePart& part : index.parts()) {
    if (shard < part.shards()) return {&part, shard};
    shard -= part.shards();
  }
  fail(Code::kBug, "there is no shard ", shard, " in any part");
}

bool valid_column_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace lf
