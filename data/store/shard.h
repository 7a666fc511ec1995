// A shard: an ordinary HDF5 file of clips, followed by a trailer that says all it takes to read it
// without HDF5. This is the only part that knows HDF5, and it only ever writes it, in memory: every
// reader of ours goes by the trailer's or the index's addresses, checked against the size of the
// file, so a hostile HDF5 file never meets the HDF5 library and no link in one is ever followed.
// Bytes are reproducible: no times, fixed format, nothing uninitialised. Called by data/store/build
// (to write) and verify, inspect and resume (trailers).
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

// Collects the clips of one shard, then makes its bytes. For one thread.
class ShardWriter {
 public:
  // Shard `number` of the build that `plan` describes (one part, no records); `plan` and `layout`
  // must outlive it.
  ShardWriter(const StoreIndex& plan, const Layout& layout, uint64_t number);

  // Adds item `item`: `image` is the last frame; `make` writes the corrupted frames of a draw and
  // is called once for each draw held on disk. Throws Code::kData, and adds nothing, if the sample
  // does not fit the plan (its texts too long, its side values of another width).
  void add(uint64_t item, const Sample& sample, const uint8_t* image,
           const std::function<void(uint32_t draw, void* corrupted)>& make);
  // Item `item` is left out.
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
  std::vector<std::string> numbers_;  // of each side column that is no text
};

// The trailer of a shard file, its checksum right, its record within the file. Throws Code::kData
// naming `what` if it is not a shard or is damaged. `hdf5_bytes`, if given, gets the size of the
// part before it.
ShardTrailer read_trailer(const InFile& file, const std::string& what,
                          uint64_t* hdf5_bytes = nullptr);

// The CRC32C of all bytes before the trailer that are not pixels.
uint32_t metadata_checksum(const InFile& file, const Layout& layout, const ShardRecord& record,
                           uint64_t hdf5_bytes);

}  // namespace lf
