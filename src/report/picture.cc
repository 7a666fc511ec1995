#include "report/picture.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "data/formats/npy.h"
#include "data/image/resize.h"

namespace lf {
namespace {

constexpr ImageLimits kLimits = {.pixels = 32'000'000, .side = 32768};

std::span<const uint8_t> as_bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Image shrunk(const Image& image, int height, int width) {
  return resize(image, {0, 0, image.width, image.height}, std::max(1, height), std::max(1, width));
}

// [T, H, W, C] of the header's array of clips. Refuses what no picture could be.
ClipShape shape_of(const NpyHeader& header, const std::string& name) {
  const std::vector<uint64_t>& sides = header.shape;
  const bool clips = sides.size() == 5;
  const size_t at = clips ? 2 : 1;
  const auto within = [](uint64_t side, uint64_t most) { return side >= 1 && side <= most; };
  if (header.type != "|u1" || (sides.size() != 4 && !clips) || !within(sides[at], 1024) ||
      !within(sides[at + 1], 1024) || (sides[at + 2] != 1 && sides[at + 2] != 3) ||
      (clips && !within(sides[1], 256))) {
    fail(Code::kData, name, " is no array of pictures, expected bytes [n, height, width, 1 or 3] ",
         "or [n, frames, height, width, 1 or 3] of sides up to 1,024");
  }
  return {clips ? static_cast<int>(sides[1]) : 1, static_cast<int>(sides[at]),
          static_cast<int>(sides[at + 1]), static_cast<int>(sides[at + 2])};
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) {
      group = group << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    }
    for (size_t i = 0; i < 4; ++i) {
      out += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
    }
  }
  return out;
}

std::string data_uri(std::string_view png) { return "data:image/png;base64," + base64(png); }

std::string png_within(const std::string& bytes, uint64_t most, const std::string& name) {
  Image image = decode_image(as_bytes(bytes), kLimits, name);
  std::string png = bytes.starts_with("\x89PNG") ? bytes : encode_png(image);
  while (png.size() > most && (image.height > 16 || image.width > 16)) {
    image = shrunk(image, image.height / 2, image.width / 2);
    png = encode_png(image);
  }
  return png;
}

void write_picture(Html& html, std::string_view png, const std::string& alternative, bool zoomed) {
  html.empty(
      "img",
      {{"src", data_uri(png)}, {"alt", alternative}, {"class", zoomed ? "pixels" : "picture"}});
}

std::vector<std::vector<Image>> read_clips(FileSystem& files, const std::string& path,
                                           size_t most) {
  constexpr uint64_t kMostBytes = 8 << 20;  // a page holds many such files
  const std::string name = printable(path);
  const std::unique_ptr<InFile> in = files.open_read(path);
  std::string head(std::min(in->size(), kNpyHeaderBytes), '\0');
  in->read(0, head.data(), head.size());
  const NpyHeader header = parse_npy_header(as_bytes(head), in->size(), name);
  const ClipShape shape = shape_of(header, name);
  const uint64_t count = std::min({header.shape[0], static_cast<uint64_t>(most),
                                   kMostBytes / std::max<uint64_t>(1, shape.bytes())});
  if (count == 0) {
    fail(Code::kData, name, " has clips of ", human_bytes(shape.bytes()), ", at most ",
         human_bytes(kMostBytes), " are shown");
  }
  std::vector<std::vector<Image>> clips;
  std::vector<uint8_t> pixels(shape.bytes());
  for (uint64_t i = 0; i < count; ++i) {
    in->read(header.data_offset + i * pixels.size(), pixels.data(), pixels.size());
    clips.push_back(frames_of(pixels, shape));
  }
  return clips;
}

Image side_by_side(const std::vector<Image>& images, int side) {
  LF_CHECK(!images.empty());
  const Image& first = images.front();
  const double factor =
      std::min(1.0, static_cast<double>(side) / std::max(first.height, first.width));
  const int height = std::max(1, static_cast<int>(first.height * factor));
  const int width = std::max(1, static_cast<int>(first.width * factor));
  Image sheet = black_image({1, height, width * static_cast<int>(images.size()), first.channels});
  const size_t row = static_cast<size_t>(width) * static_cast<size_t>(first.channels);
  for (size_t i = 0; i < images.size(); ++i) {
    LF_CHECK(images[i].shape() == first.shape());
    const Image image = factor < 1 ? shrunk(images[i], height, width) : images[i];
    for (size_t y = 0; y < static_cast<size_t>(height); ++y) {
      std::memcpy(&sheet.pixels[(y * images.size() + i) * row], &image.pixels[y * row], row);
    }
  }
  return sheet;
}

}  // namespace lf
