#include "launch/made_clips.h"

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "data/formats/npy.h"
#include "data/image/grid.h"

namespace lf {
namespace {

constexpr size_t kPictured = 64;  // clips in the pictures of a folder: more are not looked at

}  // namespace

MadeClips::MadeClips(std::string bytes, const ClipShape& shape, std::vector<int64_t> observed)
    : bytes_(std::move(bytes)),
      shape_(shape),
      observed_(std::move(observed)),
      clip_bytes_(static_cast<size_t>(shape.frames) * static_cast<size_t>(shape.height) *
                  static_cast<size_t>(shape.width) * static_cast<size_t>(shape.channels)),
      clips_(bytes_.size() / clip_bytes_) {}

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

// Every frame of every clip, a clip a row; images in a square.
std::string MadeClips::sheet(size_t clips) const {
  if (shape_.frames == 1) return last_frames(clips);
  std::vector<GridRow> rows;
  for (size_t i = 0; i < clips; ++i) {
    for (GridRow& row : rows_of_clip(str("clip ", i), clip(i), i == 0, observed_)) {
      rows.push_back(std::move(row));
    }
  }
  return encode_png(draw_grid(rows));
}

std::string MadeClips::last_frames(size_t clips) const {
  return encode_png(frames_at(clips, static_cast<size_t>(shape_.frames) - 1, ""));
}

std::string MadeClips::animation(size_t clips) const {
  std::vector<Image> sheets;
  for (size_t t = 0; t < static_cast<size_t>(shape_.frames); ++t) {
    sheets.push_back(frames_at(clips, t, str("frame ", t)));
  }
  return encode_animation(sheets, 150);
}

// Frame t of the clips in a square, each row with the number of its first clip.
Image MadeClips::frames_at(size_t clips, size_t t, const std::string& above) const {
  const auto columns = static_cast<size_t>(grid_columns(static_cast<int>(clips)));
  const bool given =
      std::binary_search(observed_.begin(), observed_.end(), static_cast<int64_t>(t));
  std::vector<GridRow> rows;
  for (size_t i = 0; i < clips; ++i) {
    if (i % columns == 0) rows.emplace_back().left = str("clip ", i);
    rows.back().cells.push_back({frame(i, t), i == 0 ? above : "", given});
  }
  return draw_grid(rows);
}

std::vector<Image> MadeClips::clip(size_t i) const {
  std::vector<Image> frames;
  for (size_t t = 0; t < static_cast<size_t>(shape_.frames); ++t) frames.push_back(frame(i, t));
  return frames;
}

Image MadeClips::frame(size_t i, size_t t) const {
  const size_t bytes = shape_.image().bytes();
  const auto* data = reinterpret_cast<const uint8_t*>(bytes_.data()) + i * clip_bytes_ + t * bytes;
  return {shape_.height, shape_.width, shape_.channels, {data, data + bytes}};
}

}  // namespace lf
