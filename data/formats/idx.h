// IDX arrays, the format of MNIST and its relatives: a magic number with type and rank, big-endian
// sizes, then the bytes; often gzipped. Only unsigned bytes. Sizes are checked against the file's
// length before anything is allocated. Called by the sources `idx` and `generated`.
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

// The header in the file's first bytes (at least 20, or all there are). Damage is Code::kData.
IdxHeader parse_idx_header(std::span<const uint8_t> begin, const std::string& name);

// Inflates a gzipped IDX file and returns its payload. The size in the header must be what a file
// of this length can hold, at most 4 GiB, and exactly what comes out.
std::vector<uint8_t> inflate_idx(std::span<const uint8_t> gzip, const std::string& name,
                                 IdxHeader* header);

// An open IDX file; read() may be called from many threads.
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

// The file of labels beside a file of images, by MNIST's naming ("t10k-images-idx3-ubyte.gz" ->
// "t10k-labels-idx1-ubyte.gz", with or without .gz); "" if there is none.
std::string labels_beside(const std::string& images);

}  // namespace lf
