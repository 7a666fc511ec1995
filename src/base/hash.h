// FNV-1a, for names and keys; no protection against who wants a collision.
#pragma once

#include <cstdint>
#include <string_view>

namespace lf {

constexpr uint64_t kFnvBasis = 0xcbf29ce484222325;

// The hash of `bytes` after those that gave `hash`.
constexpr uint64_t fnv1a(std::string_view bytes, uint64_t hash = kFnvBasis) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace lf
