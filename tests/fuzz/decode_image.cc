// Fuzzes the decoders with limits small enough that an input is quick and memory is bounded.
#include "base/error.h"
#include "data/image/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lf::size_in_header({data, size});
  try {
    const lf::Image image =
        lf::decode_image({data, size}, {.pixels = 1 << 18, .side = 4096}, "fuzz");
    LF_CHECK(image.channels == 1 || image.channels == 3);
    LF_CHECK(image.pixels.size() == static_cast<size_t>(image.height) *
                                        static_cast<size_t>(image.width) *
                                        static_cast<size_t>(image.channels));
  } catch (const lf::Error& error) {
    if (error.code() != lf::Code::kData) throw;
  }
  return 0;
}
