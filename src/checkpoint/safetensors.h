// The safetensors file format, which Python's safetensors reads and writes: a reader that survives
// hostile files and a streaming writer. Knows no torch: a tensor is a name, a type, a shape and
// little-endian bytes in row-major order. Not the checkpoint's folder (manifest.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace lf {

enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

const char* name_of(DType dtype);  // "F32"
size_t size_of(DType dtype);
bool is_float(DType dtype);
bool parse_dtype(std::string_view name, DType* dtype);

struct TensorLayout {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  uint64_t bytes() const;
};

std::string describe(const TensorLayout& layout);  // "F32 [3, 32, 32]"

// A tensor in a file: its bytes are [begin, begin + layout.bytes()) of the whole file.
struct TensorEntry {
  TensorLayout layout;
  uint64_t begin = 0;
};

using TensorMetadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by offset; `begin` counts from the header's end
  TensorMetadata metadata;
};

// The header's JSON, strictly: exactly the members the format names, no duplicates, valid UTF-8,
// shapes and offsets that fit together and cover [0, data_bytes) without hole or overlap. Anything
// else is Code::kCheckpoint naming `path`.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& path);

// An open file. Its header is checked on opening (at most 100 MB of it, and never more than the
// file holds); tensors are read one at a time, by any number of threads. Damage and foreign files
// are Code::kCheckpoint; pickles are recognised and never parsed.
class SafetensorsFile {
 public:
  SafetensorsFile(FileSystem& files, const std::string& path);

  const std::vector<TensorEntry>& tensors() const { return header_.tensors; }
  const TensorMetadata& metadata() const { return header_.metadata; }
  const TensorEntry* find(const std::string& name) const;  // null: there is none
  uint64_t size() const { return in_->size(); }
  const std::string& path() const { return path_; }

  // The tensor's bytes, all of them; returns their CRC-32C.
  uint32_t read(const TensorEntry& entry, void* into) const;

 private:
  std::string path_;
  std::unique_ptr<InFile> in_;
  SafetensorsHeader header_;
  std::map<std::string_view, size_t> by_name_;
};

// CRC-32C of a whole file; one that cannot be read is Code::kCheckpoint.
uint32_t crc32c_of_file(FileSystem& files, const std::string& path);

// Writes a file front to back in large writes and computes its CRC on the way. Tensors are sorted
// by element size, largest first, so that all are aligned, then by name: the order depends on the
// set of tensors alone.
class SafetensorsWriter {
 public:
  SafetensorsWriter(FileSystem& files, const std::string& path, std::vector<TensorLayout> layouts,
                    const TensorMetadata& metadata);

  // In the order in which write() takes their bytes.
  const std::vector<TensorLayout>& layouts() const { return layouts_; }
  // The next tensor's bytes; returns their CRC-32C.
  uint32_t write(const void* data);

  struct Written {
    uint64_t bytes = 0;
    uint32_t crc32c = 0;
  };
  // Syncs and closes. Without it the file is unfinished.
  Written finish();

 private:
  void append(const void* data, size_t size);

  std::vector<TensorLayout> layouts_;
  std::unique_ptr<OutFile> out_;
  std::string buffer_;  // small tensors gather here
  size_t next_ = 0;
  Written written_;
};

// Sorts as the writer does.
void sort_for_file(std::vector<TensorLayout>& layouts);

}  // namespace lf
