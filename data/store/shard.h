// A shard: an ordinary HDF5 file of clips, followed by a trailer that suffices to read it without
// HDF5. Readers use the addresses in the trailer or the index, checked against the size of the
// file, so the HDF5 library never parses a hostile file and no link in one is followed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "data/sources/source.h"
#include "data/store/layout.h"

namespace lf {

// Collects the clips of one shard, then makes its bytes. Not thread-safe.
class ShardWriter {
 public:
  // For shard `number` of the build that `plan` (one part, no records) describes. `plan` and
  // `layout` must outlive the writer.
  ShardWriter(const StoreIndex& plan, const Layout& layout, uint64_t number);

  // Adds item `item`. `image` is the last frame; `make`, called once for each draw held on disk,
  // writes the corrupted frames. Throws Code::kData, and adds nothing, if the sample does not fit
  // the plan: a text too long, side values of another width.
  void add(uint64_t item, const Sample& sample, const uint8_t* image,
           const std::function<void(uint32_t draw, void* corrupted)>& make);
  // Lists item `item` as unusable.
  void quarantine(uint64_t item, const std::string& name, const std::string& reason);

  uint64_t clips() const { return items_.size(); }
  uint64_t quarantined() const { return static_cast<uint64_t>(trailer_.quarantine_size()); }

  // The whole file.
  std::string finish();

 private:
  struct TextColumn {
    std::vector<uint64_t> offsets = {0};
    std::string bytes;
  };
  void check(const Sample& sample) const;
  void add_text(TextColumn& column, const std::string& text);
  std::string_view bytes_of(size_t dataset) const;

  const StoreIndex& plan_;
  const Layout& layout_;
  ShardTrailer trailer_;
  std::vector<uint32_t> crc_;
  std::vector<uint64_t> items_;
  std::vector<int64_t> labels_;
  std::string frames_, images_;
  std::vector<TextColumn> texts_;
  std::vector<std::string> values_;  // of each side column but texts
};

// Reads and checks the trailer of a shard file. Throws Code::kData naming `what` if the file is not
// a shard or is damaged. `hdf5_bytes`, if not null, gets the size of the HDF5 part before it.
ShardTrailer read_trailer(const InFile& file, const std::string& what,
                          uint64_t* hdf5_bytes = nullptr);

// The CRC32C of all bytes before the trailer except pixels.
uint32_t metadata_checksum(const InFile& file, const Layout& layout, const ShardRecord& record,
                           uint64_t hdf5_bytes);

}  // namespace lf
