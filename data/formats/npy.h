// NumPy's .npy format: reading the header of an untrusted file, writing the header of our own. Not
// a reader of objects or of Fortran order. Called by the source `npy` and by `lastframe export`.
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

// Bytes of a file that surely hold the header, if it is one we accept.
inline constexpr uint64_t kNpyHeaderBytes = 64 << 10;

// The header in the first kNpyHeaderBytes of a file (or all of it) of `file_bytes` bytes. Damage,
// objects, Fortran order, and a shape the file's length denies are Code::kData with advice.
NpyHeader parse_npy_header(std::span<const uint8_t> begin, uint64_t file_bytes,
                           const std::string& name);

// Magic and header of a C-ordered array, format 1.0.
std::string npy_header(const std::string& type, const std::vector<uint64_t>& shape);

}  // namespace lf
