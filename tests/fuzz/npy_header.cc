// Fuzzes the reader of .npy headers.
#include "base/error.h"
#include "data/formats/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const lf::NpyHeader header =
        lf::parse_npy_header({data, std::min<size_t>(size, lf::kNpyHeaderBytes)}, size, "fuzz");
    LF_CHECK(header.data_offset + header.elements() * static_cast<uint64_t>(header.item_bytes) ==
             size);
  } catch (const lf::Error& error) {
    if (error.code() != lf::Code::kData) throw;
  }
  return 0;
}
