// The layout of a store: names of its files, the datasets of a shard and their sizes, the encoding
// of an index. Arithmetic and checks over records that may be hostile; no HDF5, reads no pixels.
// README.md describes the format.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clip_shape.h"
#include "base/file.h"
#include "record.pb.h"

namespace lf {

constexpr uint32_t kStoreFormat = 1;
constexpr uint64_t kLongestText = 1 << 20;  // of a name or of a text column's value

std::string shard_name(uint64_t shard);                            // "00017.h5"
std::string shard_path(const std::string& store, uint64_t shard);  // "STORE/shards/00017.h5"
std::string shards_folder(const std::string& store);
std::string index_path(const std::string& store);
std::string plan_path(const std::string& store);
std::string quarantine_path(const std::string& store);
std::string building_folder(const std::string& store);  // scratch files of a build under way

// One dataset of a shard. `text`: a column of texts as two datasets, "<name>.offsets" (uint64, one
// more than there are clips) and "<name>.bytes".
struct Dataset {
  enum class Type { kUint8, kUint32, kInt64, kUint64, kFp16, kFloat32 };
  std::string name;
  Type type = Type::kUint8;
  std::vector<uint64_t> row;  // dimensions after the first
  bool pixels = false;        // not part of the metadata block
  int text = -1;              // holds the bytes of text column `text`: rows are bytes, not clips
  bool offsets = false;       // has one row more than there are clips

  size_t type_bytes() const;
  uint64_t row_bytes() const;
};

// The datasets of every shard of a store, in the order of ShardRecord.address:
//   crc [n, checksums]       CRC32C of each part of a clip, in the order of checksum_names()
//   items [n], labels [n]    the clip's item of the source; its label, -1 if it has none
//   frames                   STORED: [n, T, H, W, C] uint8, the image last; or [n, T-1, H, W, C]
//   fp16 images [n, H, W, C]      if `frames` does not hold the image names, side.<column>     the
//   clip's name and its side columns
// With several draws, `frames` has them as its second dimension.
class Layout {
 public:
  explicit Layout(const StoreIndex& index);

  const std::vector<Dataset>& datasets() const { return datasets_; }
  size_t texts() const { return texts_; }
  const std::vector<std::string>& checksum_names() const { return checksum_names_; }

  // Positions in datasets().
  static constexpr size_t kCrc = 0, kItems = 1, kLabels = 2;
  size_t names() const { return names_; }  // its offsets; the bytes follow
  size_t column(size_t c) const { return columns_[c]; }

  // Columns of the crc table: the image, the frames of a draw, the name, a side column.
  size_t checksums() const { return checksum_names_.size(); }
  static constexpr size_t kImageChecksum = 0;
  size_t frames_checksum(uint32_t draw) const { return 1 + draw; }
  size_t name_checksum() const { return 1 + held_draws_; }
  size_t column_checksum(size_t c) const { return 2 + held_draws_ + c; }

  bool stored() const { return held_draws_ > 0; }
  uint32_t held_draws() const { return held_draws_; }  // on disk; 0 when RECOMPUTED
  bool whole() const { return whole_; }  // the image follows the frames: one read gets the clip
  uint64_t image_bytes() const { return image_bytes_; }
  uint64_t corrupted_bytes() const { return corrupted_bytes_; }

  // Offsets from the address of the dataset that holds them.
  size_t frames_dataset() const { return 3; }
  size_t image_dataset() const { return stored() && !whole_ ? 4 : 3; }
  uint64_t frames_offset(uint64_t clip, uint32_t draw) const;
  uint64_t image_offset(uint64_t clip, uint32_t draw) const;

  // Bytes of dataset d of a shard.
  uint64_t bytes(size_t d, const ShardRecord& record) const;
  uint64_t rows(size_t d, const ShardRecord& record) const;
  uint64_t table_bytes(const ShardRecord& record) const;  // of crc, items and labels together

 private:
  void add_text(const std::string& name);

  std::vector<Dataset> datasets_;
  std::vector<std::string> checksum_names_;
  std::vector<size_t> columns_;
  size_t names_ = 0, texts_ = 0;
  uint32_t held_draws_ = 0;
  bool whole_ = true;
  uint64_t image_bytes_ = 0, corrupted_bytes_ = 0;
};

// Checks the index but for its shard records. Throws Code::kData naming `what`.
void check_plan(const StoreIndex& index, const std::string& what);
// The same of its sizes and counts; `refuse` is told why and throws.
void check_bounds(const StoreIndex& index, const std::function<void(const std::string&)>& refuse);
// Checks that every dataset of the record is within the file and that no product overflows.
void check_record(const Layout& layout, const ShardRecord& record, const std::string& what);

// The bytes of STORE/index or STORE/plan, and back. Decoding checks everything and throws
// Code::kData naming `path`.
std::string encode_index(const StoreIndex& index);
StoreIndex decode_index(std::string_view bytes, const std::string& path);

// Reads the index or plan at `path`.
StoreIndex read_index(FileSystem& files, const std::string& path);

// The shape of the store's clips, the index's four fields as one value.
ClipShape clip_shape_of(const StoreIndex& index);

// The part of the store that holds shard `shard`, and the shard's number within that part.
struct PartOfShard {
  const StorePart* part;
  uint64_t number;
};
PartOfShard part_of_shard(const StoreIndex& index, uint64_t shard);

// Is `name` usable as the name of a column and of a dataset: 1 to 64 letters, digits, '_' or '-'?
bool valid_column_name(const std::string& name);

}  // namespace lf
