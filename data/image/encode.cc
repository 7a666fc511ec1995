// Encodes PNG and animated PNG: checksummed chunks around zlib streams, so only zlib is needed.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/error.h"
#include "data/image/image.h"

namespace lf {
namespace {

void put_number(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift & 0xFF);
  }
}

void put_chunk(std::string& out, const char* type, const std::string& payload) {
  put_number(out, payload.size(), 4);
  const std::string checked = type + payload;
  out += checked;
  put_number(
      out,
      ::crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size())),
      4);
}

// PNG's predictors 0 (none) to 4 (Paeth) for one byte.
uint8_t predict(int filter, int left, int up, int up_left) {
  switch (filter) {
    case 1:
      return static_cast<uint8_t>(left);
    case 2:
      return static_cast<uint8_t>(up);
    case 3:
      return static_cast<uint8_t>((left + up) / 2);
    case 4: {
      const int from_left = std::abs(up - up_left), from_up = std::abs(left - up_left);
      const int from_both = std::abs(left + up - 2 * up_left);
      if (from_left <= from_up && from_left <= from_both) return static_cast<uint8_t>(left);
      return static_cast<uint8_t>(from_up <= from_both ? up : up_left);
    }
    default:
      return 0;
  }
}

// Each row filtered with the predictor of smallest absolute differences, the predictor's number
// first.
std::vector<uint8_t> filtered_rows(const Image& image) {
  const size_t c = static_cast<size_t>(image.channels);
  const size_t row_bytes = static_cast<size_t>(image.width) * c;
  std::vector<uint8_t> out;
  out.reserve(image.pixels.size() + static_cast<size_t>(image.height));
  std::vector<uint8_t> candidate(row_bytes), best;
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.pixels.data() + static_cast<size_t>(y) * row_bytes;
    const uint8_t* above = y > 0 ? row - row_bytes : nullptr;
    uint64_t best_cost = UINT64_MAX;
    uint8_t best_filter = 0;
    for (int filter = 0; filter <= 4; ++filter) {
      uint64_t cost = 0;
      for (size_t i = 0; i < row_bytes; ++i) {
        const int left = i >= c ? row[i - c] : 0, up = above ? above[i] : 0;
        const int up_left = above && i >= c ? above[i - c] : 0;
        candidate[i] = static_cast<uint8_t>(row[i] - predict(filter, left, up, up_left));
        cost += static_cast<uint64_t>(std::abs(static_cast<int8_t>(candidate[i])));
      }
      if (cost < best_cost) {
        best_cost = cost;
        best_filter = static_cast<uint8_t>(filter);
        best = candidate;
      }
    }
    out.push_back(best_filter);
    out.insert(out.end(), best.begin(), best.end());
  }
  return out;
}

std::string deflated(const Image& image) {
  const std::vector<uint8_t> rows = filtered_rows(image);
  uLongf size = ::compressBound(static_cast<uLong>(rows.size()));
  std::string out(size, '\0');
  LF_CHECK(::compress2(reinterpret_cast<Bytef*>(out.data()), &size, rows.data(),
                       static_cast<uLong>(rows.size()), Z_DEFAULT_COMPRESSION) == Z_OK);
  out.resize(size);
  return out;
}

std::string file_head(const Image& image) {
  LF_CHECK((image.channels == 1 || image.channels == 3) && image.height > 0 && image.width > 0);
  LF_CHECK(image.pixels.size() == image.shape().bytes());
  std::string out = "\x89PNG\r\n\x1a\n", header;
  put_number(header, static_cast<uint64_t>(image.width), 4);
  put_number(header, static_cast<uint64_t>(image.height), 4);
  put_number(header, 8, 1);
  put_number(header, image.channels == 1 ? 0 : 2, 1);
  put_number(header, 0, 3);  // deflate, adaptive filters, not interlaced
  put_chunk(out, "IHDR", header);
  return out;
}

}  // namespace

std::string encode_png(const Image& image) {
  std::string out = file_head(image);
  put_chunk(out, "IDAT", deflated(image));
  put_chunk(out, "IEND", "");
  return out;
}

std::string encode_animation(std::span<const Image> frames, int milliseconds_per_frame) {
  LF_CHECK(!frames.empty() && milliseconds_per_frame >= 1 && milliseconds_per_frame <= 65535);
  const Image& first = frames.front();
  std::string out = file_head(first), animation;
  put_number(animation, frames.size(), 4);
  put_number(animation, 0, 4);  // plays: for ever
  put_chunk(out, "acTL", animation);
  uint64_t sequence = 0;
  for (const Image& frame : frames) {
    LF_CHECK(frame.shape() == first.shape());
    std::string control;
    put_number(control, sequence++, 4);
    put_number(control, static_cast<uint64_t>(frame.width), 4);
    put_number(control, static_cast<uint64_t>(frame.height), 4);
    put_number(control, 0, 8);  // offset of the frame
    put_number(control, static_cast<uint64_t>(milliseconds_per_frame), 2);
    put_number(control, 1000, 2);
    put_number(control, 0, 2);  // the frame replaces everything and stays
    put_chunk(out, "fcTL", control);
    if (&frame == &first) {
      put_chunk(out, "IDAT", deflated(frame));
    } else {
      std::string data;
      put_number(data, sequence++, 4);
      put_chunk(out, "fdAT", data + deflated(frame));
    }
  }
  put_chunk(out, "IEND", "");
  return out;
}

}  // namespace lf
