// CRC-32C (Castagnoli), the checksum of every clip, shard and checkpoint. Takes the fastest way the
// CPU has: carry-less products of 512 bits, the SSE4.2 or ARMv8 instruction, or a table; all give
// the same value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lf {

// Extends `crc` (0 to begin) over `size` bytes.
uint32_t crc32c(const void* data, size_t size, uint32_t crc = 0);

// memcpy and crc32c(into, size) in one pass, where folding makes that cheaper: for bytes that come
// from memory rather than from a cache, such as those of a mapped file.
uint32_t crc32c_copy(void* into, const void* data, size_t size);

// crc32c by table, whatever the CPU: the reference for tests.
uint32_t crc32c_portable(const void* data, size_t size, uint32_t crc = 0);

// The ways this CPU can take, fastest first, for tests.
struct Crc32cPath {
  const char* name;
  uint32_t (*extend)(const void* data, size_t size, uint32_t crc);
};
std::vector<Crc32cPath> crc32c_paths();

}  // namespace lf
