// Decodes WebP stills with libwebp, where the program was built with it. Its decoders are exact, so
// that every CPU gives the same pixels.
#ifdef LF_WEBP
#include <webp/decode.h>
#endif

#include "base/error.h"
#include "data/image/codecs.h"

namespace lf {

#ifdef LF_WEBP

bool decodes_webp() { return true; }

ImageSize webp_size(std::span<const uint8_t> bytes) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK) return {};
  return {features.height, features.width};
}

Image decode_webp(std::span<const uint8_t> bytes, const ImageLimits& limits,
                  const std::string& name) {
  const auto require = [&](VP8StatusCode status) {
    if (status == VP8_STATUS_OK) return;
    fail(Code::kData, name, ": damaged or truncated WebP (libwebp's status ",
         static_cast<int>(status), ")");
  };
  WebPDecoderConfig config;
  LF_CHECK(WebPInitDecoderConfig(&config) != 0, "libwebp's header and library differ");
  require(WebPGetFeatures(bytes.data(), bytes.size(), &config.input));
  if (config.input.has_animation != 0) {
    fail(Code::kData, name, ": it is an animation, expected a still; take a frame of it");
  }
  const auto height = static_cast<uint64_t>(config.input.height);
  const auto width = static_cast<uint64_t>(config.input.width);
  check_dimensions(height, width, UINT64_MAX, limits, name);  // one colour takes no bits at all
  const bool alpha = config.input.has_alpha != 0;
  const uint64_t row_bytes = width * (alpha ? 4 : 3);
  Image image{config.input.height, config.input.width, 3, std::vector<uint8_t>(height * row_bytes)};
  config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {image.pixels.data(), static_cast<int>(row_bytes), image.pixels.size()};
  require(WebPDecode(bytes.data(), bytes.size(), &config));
  if (alpha) over_white(image.pixels, 3);
  return image;
}

#else

bool decodes_webp() { return false; }

ImageSize webp_size(std::span<const uint8_t>) { return {}; }

Image decode_webp(std::span<const uint8_t>, const ImageLimits&, const std::string& name) {
  fail(Code::kData, name,
       ": it is a WebP, and this program was built without libwebp; install libwebp-dev and build "
       "again, or convert it to PNG");
}

#endif

}  // namespace lf
