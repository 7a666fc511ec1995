#include "launch/made_clips.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/file.h"
#include "data/formats/npy.h"

namespace lf {
namespace {

constexpr size_t kPictured = 64;  // clips in the pictures of a folder: more are not looked at

// The image in a thin frame, green for one that was observed: pictures show what was given.
Image framed(const Image& image, bool observed) {
  const Image inner = with_channels(image, 3);
  Image out{inner.height + 2, inner.width + 2, 3, {}};
  const std::array<uint8_t, 3> colour =
      observed ? std::array<uint8_t, 3>{0, 200, 0} : std::array<uint8_t, 3>{255, 255, 255};
  for (int i = 0; i < out.height * out.width; ++i) {
    out.pixels.insert(out.pixels.end(), colour.begin(), colour.end());
  }
  for (int y = 0; y < inner.height; ++y) {
    const auto row = inner.pixels.begin() + static_cast<ptrdiff_t>(y) * inner.width * 3;
    std::copy(row, row + inner.width * 3,
              out.pixels.begin() + static_cast<ptrdiff_t>((y + 1) * out.width + 1) * 3);
  }
  return out;
}

// Of so many pictures in a square.
int columns_of(size_t pictures) {
  return static_cast<int>(std::ceil(std::sqrt(static_cast<double>(pictures))));
}

}  // namespace

MadeClips::MadeClips(std::string bytes, const ClipShape& shape, std::vector<int64_t> observed)
    : bytes_(std::move(bytes)),
      shape_(shape),
      observed_(std::move(observed)),
      clip_bytes_(static_cast<size_t>(shape.frames) * static_cast<size_t>(shape.height) *
                  static_cast<size_t>(shape.width) * static_cast<size_t>(shape.channels)),
      clips_(bytes_.size() / clip_bytes_),
      zoom_(shape.height <= 64 ? 2 : 1) {}

void MadeClips::write(const std::string& out) && {
  FileSystem& files = real_file_system();
  if (out.ends_with(".npy")) return write_array(out);
  if (out.ends_with(".apng")) return publish_file(files, out, animation(clips_));
  if (out.ends_with(".png")) return publish_file(files, out, sheet(clips_));
  const size_t some = std::min(clips_, kPictured);
  files.make_folders(out);
  publish_file(files, out + "/images.png", last_frames(some));
  if (shape_.frames > 1) {
    publish_file(files, out + "/strips.png", sheet(some));
    publish_file(files, out + "/moving.apng", animation(some));
  }
  write_array(out + "/clips.npy");
}

void MadeClips::write_array(const std::string& file) {
  const auto side = [](int n) { return static_cast<uint64_t>(n); };
  bytes_.insert(0, npy_header("|u1", {clips_, side(shape_.frames), side(shape_.height),
                                      side(shape_.width), side(shape_.channels)}));
  publish_file(real_file_system(), file, bytes_);
}

// Every frame of every clip, a clip a row; of images as many columns as rows.
std::string MadeClips::sheet(size_t clips) const {
  std::vector<Image> all;
  for (size_t i = 0; i < clips; ++i) {
    for (Image& frame : clip(i)) all.push_back(std::move(frame));
  }
  return encode_png(
      contact_sheet(all, shape_.frames > 1 ? shape_.frames : columns_of(clips), zoom_));
}

std::string MadeClips::last_frames(size_t clips) const {
  std::vector<Image> all;
  for (size_t i = 0; i < clips; ++i) all.push_back(clip(i).back());
  return encode_png(contact_sheet(all, columns_of(clips), zoom_));
}

std::string MadeClips::animation(size_t clips) const {
  std::vector<std::vector<Image>> by_frame(static_cast<size_t>(shape_.frames));
  for (size_t i = 0; i < clips; ++i) {
    std::vector<Image> frames = clip(i);
    for (size_t t = 0; t < frames.size(); ++t) by_frame[t].push_back(std::move(frames[t]));
  }
  std::vector<Image> sheets;
  for (const auto& frame : by_frame) {
    sheets.push_back(contact_sheet(frame, columns_of(clips), zoom_));
  }
  return encode_animation(sheets, 150);
}

std::vector<Image> MadeClips::clip(size_t i) const {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes_.data()) + i * clip_bytes_;
  std::vector<Image> frames = frames_of({data, clip_bytes_}, shape_);
  if (observed_.empty()) return frames;
  for (size_t t = 0; t < frames.size(); ++t) {
    frames[t] = framed(
        frames[t], std::binary_search(observed_.begin(), observed_.end(), static_cast<int64_t>(t)));
  }
  return frames;
}

}  // namespace lf
