// Fuzzes the reader of IDX headers and of gzipped IDX files.
#include "data/formats/idx.h"

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    if (size >= 2 && data[0] == 0x1F && data[1] == 0x8B) {
      lf::IdxHeader header;
      const std::vector<uint8_t> payload = lf::inflate_idx({data, size}, "fuzz", &header);
      LF_CHECK(payload.size() == header.items() * header.item_bytes);
    } else {
      const lf::IdxHeader header = lf::parse_idx_header({data, size}, "fuzz");
      LF_CHECK(header.header_bytes <= size);
    }
  } catch (const lf::Error& error) {
    if (error.code() != lf::Code::kData) throw;
  }
  return 0;
}
