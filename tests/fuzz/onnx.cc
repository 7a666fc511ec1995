// Any bytes as an ONNX file: refused in one sentence or understood within bounds, never a crash.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "checkpoint/onnx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    lf::parse_onnx({reinterpret_cast<const char*>(data), size}, "file");
  } catch (const lf::Error&) {
  }
  return 0;
}
