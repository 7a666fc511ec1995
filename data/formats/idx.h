// Reads IDX arrays, the format of MNIST: a magic number with type and rank, big-endian sizes, then
// the elements; often gzipped. Unsigned bytes only. Sizes are checked against the file's length
// before anything is allocated.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace lf {

struct IdxHeader {
  std::vector<uint64_t> sizes;  // of each dimension, items first
  uint64_t header_bytes = 0;
  uint64_t item_bytes = 0;  // of one item; 1 for rank 1
  uint64_t items() const { return sizes.front(); }
};

// Parses the header in the first 20 bytes of a file, or all of a shorter one. Throws Code::kData.
IdxHeader parse_idx_header(std::span<const uint8_t> begin, const std::string& name);

// Inflates a gzipped IDX file and returns its elements. Throws Code::kData unless the size in the
// header is at most 4 GiB, possible for a file of this length, and exactly what inflates.
std::vector<uint8_t> inflate_idx(std::span<const uint8_t> gzip, const std::string& name,
                                 IdxHeader* header);

// An open IDX file; read() is thread-safe.
class IdxFile {
 public:
  explicit IdxFile(const std::string& path);
  const IdxHeader& header() const { return header_; }
  const std::string& name() const { return name_; }
  void read(uint64_t item, uint8_t* into) const;

 private:
  std::string name_;
  IdxHeader header_;
  std::unique_ptr<InFile> file_;   // plain
  std::vector<uint8_t> inflated_;  // gzipped: the payload
};

// The file of labels beside a file of images, by MNIST's names ("t10k-images-idx3-ubyte.gz" ->
// "t10k-labels-idx1-ubyte.gz", with or without .gz); "" if none exists.
std::string labels_beside(const std::string& images);

}  // namespace lf
