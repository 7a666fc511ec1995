#include "launch/made_clips.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "data/formats/npy.h"
#include "data/image/grid.h"
#include "data/video/film.h"

namespace lf {
namespace {

constexpr size_t kPictured = 64;  // clips in the pictures of a folder: more are not looked at

// "clip 3", or "clips 3-5" of several in a row.
std::string row_name(size_t first, size_t end) {
  return end - first == 1 ? str("clip ", first) : str("clips ", first, "-", end - 1);
}

}  // namespace

MadeClips::MadeClips(std::string bytes, const ClipShape& shape, std::vector<int64_t> observed,
                     RealClip real)
    : bytes_(std::move(bytes)),
      shape_(shape),
      observed_(std::move(observed)),
      real_clip_(std::move(real)),
      clip_bytes_(static_cast<size_t>(shape.frames) * static_cast<size_t>(shape.height) *
                  static_cast<size_t>(shape.width) * static_cast<size_t>(shape.channels)),
      clips_(bytes_.size() / clip_bytes_) {}

void MadeClips::write(const std::string& out) && {
  FileSystem& files = real_file_system();
  if (out.ends_with(".npy")) return write_array(out);
  const bool moving = out.ends_with(".apng") || is_film(out), still = out.ends_with(".png");
  const size_t some = moving || still ? clips_ : std::min(clips_, kPictured);
  load_real(some);
  if (moving) return publish_file(files, out, animation(out, some));
  if (still) return publish_file(files, out, sheet(some));
  files.make_folders(out);
  publish_file(files, out + "/images.png", last_frames(some));
  if (shape_.frames > 1) {
    publish_file(files, out + "/strips.png", sheet(some));
    publish_file(files, out + "/moving.apng", animation(".apng", some));
  }
  write_array(out + "/clips.npy");
}

void MadeClips::load_real(size_t clips) {
  for (size_t i = 0; real_clip_ && i < clips; ++i) real_.push_back(real_clip_(i));
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
  const auto add = [&](const std::string& left, std::vector<Image> frames, bool numbered,
                       const std::vector<int64_t>& observed) {
    std::vector<GridRow> more = rows_of_clip(left, std::move(frames), numbered, observed);
    std::move(more.begin(), more.end(), std::back_inserter(rows));
  };
  for (size_t i = 0; i < clips; ++i) {
    const std::string name = str("clip ", i);
    const bool both = !real_.empty();
    if (both) add(name + "\nreal", real_[i], i == 0, {});
    const bool numbered = i == 0 && (!both || !observed_.empty());
    add(both ? name + "\nmade" : name, clip(i), numbered, observed_);
  }
  return encode_png(draw_grid(rows));
}

std::string MadeClips::last_frames(size_t clips) const {
  return encode_png(frames_at(clips, static_cast<size_t>(shape_.frames) - 1, ""));
}

std::string MadeClips::animation(const std::string& file, size_t clips) const {
  std::vector<Image> sheets;
  for (size_t t = 0; t < static_cast<size_t>(shape_.frames); ++t) {
    sheets.push_back(frames_at(clips, t, str("frame ", t)));
  }
  return encode_moving(file, sheets, 150);
}

// Frame t of the clips in a square, each row with the numbers of its clips.
Image MadeClips::frames_at(size_t clips, size_t t, const std::string& above) const {
  const auto columns = static_cast<size_t>(grid_columns(static_cast<int>(clips)));
  const bool given =
      std::binary_search(observed_.begin(), observed_.end(), static_cast<int64_t>(t));
  const bool both = !real_.empty();
  std::vector<GridRow> rows;
  for (size_t first = 0; first < clips; first += columns) {
    const size_t end = std::min(first + columns, clips);
    const std::string name = row_name(first, end);
    GridRow real{name + "\nreal", {}};
    GridRow made{name + (both ? "\nmade" : ""), {}};
    for (size_t i = first; i < end; ++i) {
      if (both) real.cells.push_back({real_[i].at(t), "", false});
      made.cells.push_back({frame(i, t), "", given});
    }
    if (both) rows.push_back(std::move(real));
    rows.push_back(std::move(made));
  }
  rows.front().cells.front().above = above;
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
