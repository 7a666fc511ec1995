// Decodes JPEG with libjpeg-turbo. The library reports errors by callbacks that must not return, so
// they longjmp; everything that owns memory is in decode_jpeg(), outside the jump.
// jpeglib.h needs <cstddef> and <cstdio> before it.
// clang-format off
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "base/error.h"
#include "data/image/codecs.h"

namespace lf {
namespace {

// Real progressive files have about 10. Without a limit, a small file with thousands of scans over
// a large image takes hours to decode.
constexpr int kMostScans = 100;

struct Decoder {
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  jpeg_decompress_struct jpeg;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";
};

Decoder& decoder_of(j_common_ptr jpeg) { return *static_cast<Decoder*>(jpeg->client_data); }

[[noreturn]] void leave(j_common_ptr jpeg) {
  Decoder& decoder = decoder_of(jpeg);
  jpeg->err->format_message(jpeg, decoder.message);
  std::longjmp(decoder.jump, 1);
}

// Warnings about missing or wrong pixels are errors here; harmless oddities are not.
void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;
  switch (jpeg->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_JFIF_MAJOR:
    case JWRN_TOO_MUCH_DATA:
      return;
    default:
      leave(jpeg);
  }
}

void on_progress(j_common_ptr jpeg) {
  Decoder& decoder = decoder_of(jpeg);
  if (decoder.jpeg.input_scan_number <= kMostScans) return;
  std::snprintf(decoder.message, sizeof decoder.message, "it has more than %d scans", kMostScans);
  std::longjmp(decoder.jump, 1);
}

bool read_header(Decoder& decoder, std::span<const uint8_t> bytes) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_create_decompress(&decoder.jpeg);
  decoder.jpeg.progress = &decoder.progress;
  jpeg_mem_src(&decoder.jpeg, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&decoder.jpeg, TRUE);
  return true;
}

void choose_output(jpeg_decompress_struct& jpeg) {
  switch (jpeg.jpeg_color_space) {
    case JCS_GRAYSCALE:
      jpeg.out_color_space = JCS_GRAYSCALE;
      break;
    case JCS_CMYK:
    case JCS_YCCK:
      jpeg.out_color_space = JCS_CMYK;
      break;
    default:
      jpeg.out_color_space = JCS_RGB;
  }
  jpeg.dct_method = JDCT_ISLOW;  // equal bits with and without SIMD
  jpeg.do_fancy_upsampling = TRUE;
}

int output_channels(const jpeg_decompress_struct& jpeg) {
  return jpeg.out_color_space == JCS_GRAYSCALE ? 1 : jpeg.out_color_space == JCS_CMYK ? 4 : 3;
}

bool read_pixels(Decoder& decoder, uint8_t* out, size_t row_bytes) {
  if (setjmp(decoder.jump) != 0) return false;
  jpeg_start_decompress(&decoder.jpeg);
  while (decoder.jpeg.output_scanline < decoder.jpeg.output_height) {
    JSAMPROW row = out + decoder.jpeg.output_scanline * row_bytes;
    jpeg_read_scanlines(&decoder.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&decoder.jpeg);  // warns if the end marker is missing
  return true;
}

// In place; Adobe's programs store 255 - value.
void cmyk_to_rgb(std::vector<uint8_t>& pixels, bool inverted) {
  const size_t count = pixels.size() / 4;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* in = &pixels[4 * i];
    const unsigned flip = inverted ? 0 : 255;
    const unsigned black = in[3] ^ flip;
    const uint8_t rgb[3] = {multiply_bytes(in[0] ^ flip, black),
                            multiply_bytes(in[1] ^ flip, black),
                            multiply_bytes(in[2] ^ flip, black)};
    std::memcpy(&pixels[3 * i], rgb, 3);
  }
  pixels.resize(3 * count);
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, const ImageLimits& limits,
                  const std::string& name) {
  struct Owner {
    Decoder decoder{};
    Owner() {
      decoder.jpeg.err = jpeg_std_error(&decoder.errors);
      decoder.errors.error_exit = leave;
      decoder.errors.emit_message = on_message;
      decoder.progress.progress_monitor = on_progress;
      decoder.jpeg.client_data = &decoder;
    }
    ~Owner() { jpeg_destroy_decompress(&decoder.jpeg); }
  } owner;
  Decoder& decoder = owner.decoder;
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  const auto refuse = [&] {
    fail(Code::kData, name, ": damaged or truncated JPEG (", printable(decoder.message), ")");
  };

  if (!read_header(decoder, bytes)) refuse();
  // Huffman coding spends at least one bit on each 8x8 block, arithmetic coding may spend less.
  const uint64_t most_pixels = jpeg.arith_code ? UINT64_MAX : uint64_t{512} * bytes.size();
  check_dimensions(jpeg.image_height, jpeg.image_width, most_pixels, limits, name);
  choose_output(jpeg);
  const int channels = output_channels(jpeg);
  const uint64_t pixels = uint64_t{jpeg.image_height} * jpeg.image_width;
  // Coefficients of progressive files: two bytes each, up to four components, blocks rounded up.
  jpeg.mem->max_memory_to_use =
      static_cast<long>(16 * pixels + 2048 * (jpeg.image_height + jpeg.image_width) + (16 << 20));

  Image image{static_cast<int>(jpeg.image_height),
              static_cast<int>(jpeg.image_width),
              channels == 4 ? 3 : channels,
              {}};
  image.pixels.resize(pixels * static_cast<uint64_t>(channels));
  const size_t row_bytes = size_t{jpeg.image_width} * static_cast<size_t>(channels);
  if (!read_pixels(decoder, image.pixels.data(), row_bytes)) refuse();
  if (channels == 4) cmyk_to_rgb(image.pixels, jpeg.saw_Adobe_marker);
  return image;
}

}  // namespace lf
