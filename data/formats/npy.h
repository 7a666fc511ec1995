// NumPy's .npy format: parses the header of an untrusted file and makes the header of a file to be
// written. Supports neither objects nor Fortran order.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lf {

struct NpyHeader {
  std::string type;  // as in the file: "|u1", "<i8"
  int item_bytes = 0;
  std::vector<uint64_t> shape;  // at most 8 dimensions
  uint64_t data_offset = 0;
  uint64_t elements() const;  // no overflow: parse checked
};

// The first bytes of a file that hold its header, if it is one we accept.
inline constexpr uint64_t kNpyHeaderBytes = 64 << 10;

// Parses the header in the first kNpyHeaderBytes (or all) of a file of `file_bytes` bytes. Throws
// Code::kData, with advice, for damage, objects, Fortran order, and a shape that the file's length
// contradicts.
NpyHeader parse_npy_header(std::span<const uint8_t> begin, uint64_t file_bytes,
                           const std::string& name);

// Magic and header of a C-ordered array, format 1.0.
std::string npy_header(const std::string& type, const std::vector<uint64_t>& shape);

}  // namespace lf
