// What the decoders share (recognising formats, limits, EXIF orientation), and channels.
#include "data/image/image.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "data/image/codecs.h"

namespace lf {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint8_t kPngSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

bool begins_with(Bytes bytes, Bytes prefix) {
  return bytes.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), bytes.begin());
}

bool begins_with(Bytes bytes, const char* prefix) {
  return begins_with(bytes, Bytes(reinterpret_cast<const uint8_t*>(prefix), std::strlen(prefix)));
}

// The first segment before the scan of a JPEG that is `wanted`, by its marker and content.
template <typename Wanted>
Bytes jpeg_segment(Bytes bytes, Wanted&& wanted) {
  size_t at = 2;
  while (at + 4 <= bytes.size() && bytes[at] == 0xFF) {
    const uint8_t marker = bytes[at + 1];
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (marker == 0xDA || marker == 0xD9) break;
    const size_t length = static_cast<size_t>(bytes[at + 2]) << 8 | bytes[at + 3];
    if (length < 2 || at + 2 + length > bytes.size()) break;
    const Bytes payload = bytes.subspan(at + 4, length - 2);
    if (wanted(marker, payload)) return payload;
    at += 2 + length;
  }
  return {};
}

Bytes jpeg_exif(Bytes bytes) {
  const uint8_t exif[6] = {'E', 'x', 'i', 'f', 0, 0};
  const Bytes segment = jpeg_segment(bytes, [&](uint8_t marker, Bytes payload) {
    return marker == 0xE1 && begins_with(payload, exif);
  });
  return segment.empty() ? segment : segment.subspan(6);
}

// As stored, before any turning; {0, 0} if the frame header is not in these bytes.
ImageSize jpeg_size(Bytes bytes) {
  const Bytes frame = jpeg_segment(bytes, [](uint8_t marker, Bytes payload) {
    const bool other = marker == 0xC4 || marker == 0xC8 || marker == 0xCC;  // tables among them
    return marker >= 0xC0 && marker <= 0xCF && !other && payload.size() >= 5;
  });
  if (frame.empty()) return {};
  return {frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]};  // a byte of precision is first
}

ImageSize png_size(Bytes bytes) {
  const auto number = [&](size_t at) {
    return static_cast<int>(uint32_t{bytes[at]} << 24 | uint32_t{bytes[at + 1]} << 16 |
                            uint32_t{bytes[at + 2]} << 8 | bytes[at + 3]);
  };
  if (bytes.size() < 24 || !begins_with(bytes.subspan(12), "IHDR")) return {};
  return {number(20), number(16)};
}

// The eXIf chunk of a PNG.
Bytes png_exif(Bytes bytes) {
  size_t at = sizeof kPngSignature;
  while (at + 12 <= bytes.size()) {
    const size_t length = static_cast<size_t>(bytes[at]) << 24 |
                          static_cast<size_t>(bytes[at + 1]) << 16 |
                          static_cast<size_t>(bytes[at + 2]) << 8 | bytes[at + 3];
    if (length > bytes.size() - at - 12) break;
    if (begins_with(bytes.subspan(at + 4), "eXIf")) return bytes.subspan(at + 8, length);
    at += 12 + length;
  }
  return {};
}

bool is_webp(Bytes bytes) {
  return bytes.size() >= 12 && begins_with(bytes, "RIFF") && begins_with(bytes.subspan(8), "WEBP");
}

// The EXIF chunk of a WebP; some programs write JPEG's "Exif" before the TIFF block.
Bytes webp_exif(Bytes bytes) {
  const uint8_t exif[6] = {'E', 'x', 'i', 'f', 0, 0};
  size_t at = 12;
  while (at + 8 <= bytes.size()) {
    const size_t length = static_cast<size_t>(bytes[at + 7]) << 24 |
                          static_cast<size_t>(bytes[at + 6]) << 16 |
                          static_cast<size_t>(bytes[at + 5]) << 8 | bytes[at + 4];
    if (length > bytes.size() - at - 8) break;
    if (begins_with(bytes.subspan(at), "EXIF")) {
      const Bytes block = bytes.subspan(at + 8, length);
      return begins_with(block, exif) ? block.subspan(sizeof exif) : block;
    }
    at += 8 + length + length % 2;
  }
  return {};
}

// The format of other bytes, for the message.
const char* other_format(Bytes bytes) {
  if (begins_with(bytes, "GIF8")) return "a GIF";
  if (begins_with(bytes, "RIFF")) return "a RIFF file such as AVI";
  if (begins_with(bytes, "BM")) return "a BMP";
  if (begins_with(bytes, "II*") || begins_with(bytes, "MM")) return "a TIFF";
  if (bytes.size() >= 12 && begins_with(bytes.subspan(4), "ftyp")) return "an AVIF, HEIC or MP4";
  return "something else";
}

}  // namespace

int exif_orientation(Bytes tiff) {
  if (tiff.size() < 8) return 1;
  const bool little = tiff[0] == 'I' && tiff[1] == 'I';
  if (!little && !(tiff[0] == 'M' && tiff[1] == 'M')) return 1;
  const auto number = [&](size_t at, int bytes) {  // the caller checked the bounds
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      const int byte = little ? bytes - 1 - i : i;
      value = value << 8 | tiff[at + static_cast<size_t>(byte)];
    }
    return value;
  };
  if (number(2, 2) != 42) return 1;
  const uint64_t directory = number(4, 4);
  if (directory > tiff.size() - 2) return 1;
  const uint64_t entries = number(directory, 2);
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t at = directory + 2 + 12 * i;
    if (at + 12 > tiff.size()) return 1;
    if (number(at, 2) != 0x0112) continue;
    const bool one_short = number(at + 2, 2) == 3 && number(at + 4, 4) == 1;
    const uint64_t value = number(at + 8, 2);
    return one_short && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image turn_upright(const Image& image, int orientation) {
  LF_CHECK(orientation >= 1 && orientation <= 8);
  if (orientation == 1) return image;
  const int h = image.height, w = image.width, c = image.channels;
  const bool swapped = orientation >= 5;
  Image turned{swapped ? w : h, swapped ? h : w, c, std::vector<uint8_t>(image.pixels.size())};
  uint8_t* out = turned.pixels.data();
  for (int y = 0; y < turned.height; ++y) {
    for (int x = 0; x < turned.width; ++x) {
      int from_y = swapped ? x : y, from_x = swapped ? y : x;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
        from_y = h - 1 - from_y;
      }
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
        from_x = w - 1 - from_x;
      }
      const size_t at =
          (static_cast<size_t>(from_y) * static_cast<size_t>(w) + static_cast<size_t>(from_x)) *
          static_cast<size_t>(c);
      for (int k = 0; k < c; ++k) *out++ = image.pixels[at + static_cast<size_t>(k)];
    }
  }
  return turned;
}

void check_dimensions(uint64_t height, uint64_t width, uint64_t most_pixels,
                      const ImageLimits& limits, const std::string& name) {
  if (height == 0 || width == 0) fail(Code::kData, name, ": the header says it has no pixels");
  const auto side = static_cast<uint64_t>(limits.side);
  if (height > side || width > side) {
    fail(Code::kData, name, ": the header says ", width, "x", height, " pixels, at most ",
         limits.side, " on a side are decoded");
  }
  if (height * width > limits.pixels) {
    fail(Code::kData, name, ": the header says ", width, "x", height, " pixels, at most ",
         human_count(limits.pixels), " are decoded; see source.max_megapixels");
  }
  if (height * width > most_pixels) {
    fail(Code::kData, name, ": the header says ", width, "x", height,
         " pixels, more than a file of this length can hold; truncated?");
  }
}

namespace {

enum class Format { kJpeg, kPng, kWebp, kOther };

Format format_of(Bytes bytes) {
  if (begins_with(bytes, kPngSignature)) return Format::kPng;
  if (bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) {
    return Format::kJpeg;
  }
  return is_webp(bytes) ? Format::kWebp : Format::kOther;
}

int orientation_of(Bytes bytes, Format format) {
  return exif_orientation(format == Format::kJpeg  ? jpeg_exif(bytes)
                          : format == Format::kPng ? png_exif(bytes)
                                                   : webp_exif(bytes));
}

}  // namespace

std::optional<ImageSize> size_in_header(Bytes bytes) {
  const Format format = format_of(bytes);
  if (format == Format::kOther) return std::nullopt;
  const ImageSize size = format == Format::kPng    ? png_size(bytes)
                         : format == Format::kJpeg ? jpeg_size(bytes)
                                                   : webp_size(bytes);
  if (size.height <= 0 || size.width <= 0) return std::nullopt;
  return orientation_of(bytes, format) >= 5 ? ImageSize{size.width, size.height} : size;
}

Image decode_image(Bytes bytes, const ImageLimits& limits, const std::string& name) {
  const Format format = format_of(bytes);
  if (bytes.empty()) fail(Code::kData, name, ": the file is empty");
  if (format == Format::kOther) {
    fail(Code::kData, name, ": it is ", other_format(bytes), ", expected a JPEG, PNG or WebP");
  }
  const auto decode = format == Format::kPng    ? decode_png
                      : format == Format::kJpeg ? decode_jpeg
                                                : decode_webp;
  Image image = decode(bytes, limits, name);
  const int orientation = orientation_of(bytes, format);
  return orientation == 1 ? image : turn_upright(image, orientation);
}

// Puts [.., C + 1] with straight alpha over white, in place: [.., C].
void over_white(std::vector<uint8_t>& pixels, size_t colours) {
  const size_t count = pixels.size() / (colours + 1);
  for (size_t i = 0; i < count; ++i) {
    const unsigned alpha = pixels[(colours + 1) * i + colours];
    for (size_t k = 0; k < colours; ++k) {
      const unsigned value = pixels[(colours + 1) * i + k];
      pixels[colours * i + k] =
          static_cast<uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  pixels.resize(colours * count);
}

Image with_channels(Image image, int channels) {
  LF_CHECK((image.channels == 1 || image.channels == 3) && (channels == 1 || channels == 3));
  if (image.channels == channels) return image;
  const size_t pixels = image.pixels.size() / static_cast<size_t>(image.channels);
  Image other{image.height, image.width, channels, {}};
  other.pixels.resize(pixels * static_cast<size_t>(channels));
  for (size_t i = 0; i < pixels; ++i) {
    if (channels == 3) {
      std::fill_n(&other.pixels[3 * i], 3, image.pixels[i]);
    } else {
      const uint8_t* rgb = &image.pixels[3 * i];
      // 0.299, 0.587 and 0.114 times 2^16; they add up to 2^16.
      other.pixels[i] =
          static_cast<uint8_t>((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
    }
  }
  return other;
}

Image black_image(const ClipShape& shape) {
  return {shape.height, shape.width, shape.channels, std::vector<uint8_t>(shape.image().bytes())};
}

std::vector<Image> frames_of(Bytes pixels, const ClipShape& shape) {
  LF_CHECK(pixels.size() == shape.bytes());
  const size_t bytes = shape.image().bytes();
  std::vector<Image> images;
  for (int t = 0; t < shape.frames; ++t) {
    const Bytes frame = pixels.subspan(static_cast<size_t>(t) * bytes, bytes);
    images.push_back({shape.height, shape.width, shape.channels, {frame.begin(), frame.end()}});
  }
  return images;
}

}  // namespace lf
