#include "data/store/export.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/stop.h"
#include "data/formats/npy.h"
#include "data/recipe/frame_kernels.h"

namespace lf {
namespace {

float float_of_fp16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, mantissa = bits & 0x3ff;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -value : value;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

uint8_t grey_of_fp16(uint16_t bits) {
  const float grey = (float_of_fp16(bits) + 1.0F) * 127.5F;
  return static_cast<uint8_t>(std::nearbyint(std::clamp(std::isnan(grey) ? 0 : grey, 0.F, 255.F)));
}

// The frames of a clip as stored.
struct ClipBytes {
  std::vector<uint8_t> corrupted, image;
  ClipBytes(const Store& store, uint64_t clip, uint32_t draw)
      : corrupted(store.recipe().corrupted_bytes()), image(store.recipe().clean_bytes()) {
    store.read(clip, draw, corrupted.data(), image.data());
  }
};

void check_range(const Store& store, uint64_t first, uint64_t last) {
  if (first >= last || last > store.clips()) {
    fail(Code::kUsage, "the range ", first, ":", last, " is not within the clips 0:", store.clips(),
         " of ", printable(store.folder()));
  }
}

void stop_if_asked() {
  if (const StopReason reason = stop_requested(); reason != StopReason::kNone) {
    fail(Code::kInterrupted, "the export was stopped by ", name_of(reason), "; run it again");
  }
}

// The image's grey levels on the scale of fp16 frames.
void image_as_fp16(const std::vector<uint8_t>& image, std::vector<uint16_t>& out) {
  const std::vector<float> levels(image.begin(), image.end());
  out.resize(levels.size());
  round_to_fp16(levels.data(), out.data(), levels.size());
}

}  // namespace

std::vector<Image> clip_frames(const Store& store, uint64_t clip, uint32_t draw) {
  ClipBytes bytes(store, clip, draw);
  std::vector<uint8_t> grey;
  if (store.recipe().element() == Element::kUint8) {
    grey = std::move(bytes.corrupted);
  } else {
    grey.resize(bytes.corrupted.size() / 2);
    for (size_t i = 0; i < grey.size(); ++i) {
      uint16_t bits = 0;
      std::memcpy(&bits, bytes.corrupted.data() + 2 * i, 2);
      grey[i] = grey_of_fp16(bits);
    }
  }
  grey.insert(grey.end(), bytes.image.begin(), bytes.image.end());
  return frames_of(grey, store.clip_shape());
}

void export_npy(FileSystem& files, const Store& store, const std::string& path, uint64_t first,
                uint64_t last, uint32_t draw) {
  check_range(store, first, last);
  const ClipShape shape = store.clip_shape();
  const bool fp16 = store.recipe().element() == Element::kFp16;
  std::vector<uint64_t> extents = {last - first};
  for (const int side : shape.sides()) extents.push_back(static_cast<uint64_t>(side));
  publish_file(files, path, path + ".tmp", [&](OutFile& out) {
    const std::string header = npy_header(fp16 ? "<f2" : "|u1", extents);
    out.write(header.data(), header.size());
    std::vector<uint16_t> image;
    for (uint64_t clip = first; clip < last; ++clip) {
      stop_if_asked();
      const ClipBytes bytes(store, clip, draw);
      out.write(bytes.corrupted.data(), bytes.corrupted.size());
      if (fp16) {
        image_as_fp16(bytes.image, image);
        out.write(image.data(), image.size() * 2);
      } else {
        out.write(bytes.image.data(), bytes.image.size());
      }
    }
  });
}

void export_png(FileSystem& files, const Store& store, const std::string& folder, uint64_t first,
                uint64_t last, uint32_t draw) {
  check_range(store, first, last);
  for (uint64_t clip = first; clip < last; ++clip) {
    stop_if_asked();
    char name[64];
    std::snprintf(name, sizeof name, "/clip-%09llu", static_cast<unsigned long long>(clip));
    files.make_folders(folder + name);
    const std::vector<Image> frames = clip_frames(store, clip, draw);
    for (size_t f = 0; f < frames.size(); ++f) {
      char file[32];
      std::snprintf(file, sizeof file, "/frame-%03zu.png", f);
      const std::string png = encode_png(frames[f]);
      const std::unique_ptr<OutFile> out = files.create(folder + name + file);
      out->write(png.data(), png.size());
      out->close();
    }
  }
}

}  // namespace lf
