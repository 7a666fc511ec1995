// One shard of a store, opened for reading: clips by address, each part checked against its CRC.
// Uses descriptors and preadv, not InFile: a clip is one system call, and a file that shrinks is an
// error, not a SIGBUS. With loader.read: MMAP clips are copied out of a mapping instead, which
// saves that call; the size is checked before. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/store/layout.h"
#include "run.pb.h"

namespace lf {

inline constexpr const char* kRepairAdvice = "; run `lastframe verify STORE --repair`";

class OpenShard {
 public:
  // `layout` and `record` must outlive it. Throws Code::kData if the file is missing, not a regular
  // file or not as the record says, Code::kUsage if the process may open no more files.
  OpenShard(const std::string& store, const Layout& layout, const ShardRecord& record,
            uint64_t number, ReadMode mode);
  OpenShard(const OpenShard&) = delete;
  OpenShard& operator=(const OpenShard&) = delete;
  ~OpenShard();

  uint64_t item(uint64_t row) const { return items_[row]; }
  int64_t label(uint64_t row) const { return labels_[row]; }
  uint64_t address(size_t dataset) const { return record_.address(static_cast<int>(dataset)); }

  // Part of a clip: its destination, and the column of its checksum.
  struct Part {
    void* into;
    size_t size;
    size_t column;
  };
  // Reads and checks `first` and, if given, `second`, which follows it in the file. `clip` is for
  // the message.
  void read_checked(uint64_t clip, uint64_t row, uint64_t offset, const Part& first,
                    const Part& second = {nullptr, 0, 0}) const;

  // Row `row` of the text column whose offsets are dataset `first`, checked likewise.
  std::string read_text(uint64_t clip, uint64_t row, size_t first, size_t column) const;

 private:
  [[noreturn]] void refuse_open(int error) const;
  void check_file() const;
  void map();
  void read_table();
  // Reads `first_size` bytes into `first` and the `second_size` bytes after them into `second`.
  void read(uint64_t offset, void* first, size_t first_size, void* second = nullptr,
            size_t second_size = 0) const;
  void check(uint64_t clip, uint64_t row, size_t column, uint32_t found) const;
  const char* mapped(uint64_t offset, size_t size) const;

  std::string name_;
  const Layout& layout_;
  const ShardRecord& record_;
  int fd_ = -1;
  void* mapping_ = nullptr;
  std::vector<uint32_t> crc_;  // [row, column]
  std::vector<uint64_t> items_;
  std::vector<int64_t> labels_;
};

}  // namespace lf
