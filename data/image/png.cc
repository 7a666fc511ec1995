// Decodes PNG with libpng. As in jpeg.cc, everything that owns memory is outside the functions that
// libpng leaves by longjmp.
#include <png.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "data/image/codecs.h"

namespace lf {
namespace {

struct Decoder {
  std::span<const uint8_t> bytes;
  size_t at = 0;
  png_structp png = nullptr;
  png_infop info = nullptr;
  char message[160] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto& decoder = *static_cast<Decoder*>(png_get_error_ptr(png));
  std::snprintf(decoder.message, sizeof decoder.message, "%s", message);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep into, size_t size) {
  auto& decoder = *static_cast<Decoder*>(png_get_io_ptr(png));
  if (size > decoder.bytes.size() - decoder.at) png_error(png, "the file ends early");
  std::memcpy(into, decoder.bytes.data() + decoder.at, size);
  decoder.at += size;
}

// Chunks that do not change pixels are skipped unread: colour profiles and texts may be huge.
void skip_ancillary(png_structp png) {
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION  // else a fuzzer gets no further than a checksum
  png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
  png_set_option(png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
}

bool read_header(Decoder& decoder, const ImageLimits& limits) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  png_set_read_fn(decoder.png, &decoder, on_read);
  // check_dimensions() refuses sizes over our limits, with a better message.
  png_set_user_limits(decoder.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(decoder.png, 1 << 20);
  skip_ancillary(decoder.png);
  png_read_info(decoder.png, decoder.info);
  return true;
}

bool choose_output(Decoder& decoder, int* passes) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  png_set_expand(decoder.png);
  png_set_scale_16(decoder.png);
  *passes = png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  return true;
}

bool read_pixels(Decoder& decoder, int passes, int rows, size_t row_bytes, uint8_t* out) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  for (int pass = 0; pass < passes; ++pass) {
    for (int y = 0; y < rows; ++y) {
      png_read_row(decoder.png, out + static_cast<size_t>(y) * row_bytes, nullptr);
    }
  }
  png_read_end(decoder.png, nullptr);
  return true;
}

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, const ImageLimits& limits,
                 const std::string& name) {
  struct Owner {
    Decoder decoder;
    ~Owner() { png_destroy_read_struct(&decoder.png, &decoder.info, nullptr); }
  } owner;
  Decoder& decoder = owner.decoder;
  decoder.bytes = bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
  if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
  LF_CHECK(decoder.info != nullptr, "libpng's header and library differ, or memory is out");
  const auto refuse = [&] {
    fail(Code::kData, name, ": damaged or truncated PNG (", printable(decoder.message), ")");
  };

  if (!read_header(decoder, limits)) refuse();
  const uint64_t height = png_get_image_height(decoder.png, decoder.info);
  const uint64_t width = png_get_image_width(decoder.png, decoder.info);
  const uint64_t depth = uint64_t{png_get_bit_depth(decoder.png, decoder.info)} *
                         png_get_channels(decoder.png, decoder.info);
  // Deflate makes at most 1,032 bytes of one.
  check_dimensions(height, width, 1032 * 8 * uint64_t{bytes.size()} / depth, limits, name);

  int passes = 1;
  if (!choose_output(decoder, &passes)) refuse();
  const size_t channels = png_get_channels(decoder.png, decoder.info);
  const size_t row_bytes = png_get_rowbytes(decoder.png, decoder.info);
  LF_CHECK(row_bytes == width * channels);
  Image image{static_cast<int>(height), static_cast<int>(width), channels <= 2 ? 1 : 3, {}};
  image.pixels.resize(height * row_bytes);
  if (!read_pixels(decoder, passes, image.height, row_bytes, image.pixels.data())) refuse();
  if (channels % 2 == 0) over_white(image.pixels, channels - 1);
  return image;
}

}  // namespace lf
