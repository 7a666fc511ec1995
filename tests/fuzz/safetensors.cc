// Any bytes as the header of a safetensors file: refused in one sentence or understood, never a
// crash.
#include "checkpoint/safetensors.h"

#include <cstdint>
#include <string_view>

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first byte is the size of the data behind the header.
  if (size == 0) return 0;
  const std::string_view json(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    lf::parse_safetensors_header(json, data[0], "file");
  } catch (const lf::Error&) {
  }
  return 0;
}
