// What a file holds, as a checksum and as the short text by which reports and rows name it.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"

namespace lf {

// CRC-32C of the bytes from `begin` on, read in pieces.
uint32_t crc32c_of(const InFile& file, uint64_t begin = 0);

// Checksum and size of a file from `begin` on, 16 hex digits.
std::string hash_of_file(const std::string& path, uint64_t begin = 0);

}  // namespace lf
