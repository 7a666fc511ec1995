// Source kind `frames`: videos as folders of frames; a clip is a window of one video.
#include <algorithm>
#include <cctype>
#include <optional>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

// Runs of digits compare as numbers: frame2 before frame10.
bool natural_less(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return static_cast<uint8_t>(a[i]) < static_cast<uint8_t>(b[j]);
      ++i, ++j;
      continue;
    }
    while (i < a.size() && a[i] == '0') ++i;
    while (j < b.size() && b[j] == '0') ++j;
    const size_t a_begin = i, b_begin = j;
    while (i < a.size() && is_digit(a[i])) ++i;
    while (j < b.size() && is_digit(b[j])) ++j;
    if (i - a_begin != j - b_begin) return i - a_begin < j - b_begin;
    const int order = a.compare(a_begin, i - a_begin, b, b_begin, j - b_begin);
    if (order != 0) return order < 0;
  }
  const size_t a_left = a.size() - i, b_left = b.size() - j;
  return a_left != b_left ? a_left < b_left : a < b;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

struct Video {
  std::string folder;  // relative to the root
  std::vector<size_t> frames;
  int64_t label = -1;
};

class FrameVideos : public Source {
 public:
  explicit FrameVideos(const SourceConfig& config)
      : limits_(limits_of(config)),
        fit_(config),
        files_(find_images(required_path(config.frames().path(), "source.frames.path"),
                           "source.frames.path")) {
    if (!fit_.has_size() && !fit_.has_crop()) {
      require_one_size(*files_, limits_, "source.frames.path");
    }
    group();
    std::vector<uint64_t> lengths;
    std::vector<std::string> names;
    for (const Video& video : videos_) {
      lengths.push_back(video.frames.size());
      names.push_back(video.folder);
    }
    windows_.emplace(config.window(), lengths, names);
    fit_.set_default_channels(3);
    shape_ = fit_.shape();
    if (!fit_.has_size()) {
      const size_t first = videos_[(*windows_)(0).video].frames[0];
      shape_ = load_image(*files_, first, limits_, fit_).shape();
    }
    shape_.frames = windows_->frames();
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return windows_->size(); }
  std::vector<std::string> label_names() const override { return classes_.stored(); }
  std::string group_of(uint64_t index) const override {
    return store_name(videos_[(*windows_)(index).video].folder);
  }
  std::string name_of(uint64_t index) const override {
    const Windows::Clip clip = (*windows_)(index);
    return store_name(files_->name(videos_[clip.video].frames[clip.first]));  // its first frame
  }

  Sample load(uint64_t index) const override {
    const Windows::Clip clip = (*windows_)(index);
    const Video& video = videos_[clip.video];
    Sample sample{.pixels = {}, .label = video.label, .name = name_of(index), .side = {}};
    sample.pixels.reserve(shape_.bytes());
    for (int t = 0; t < shape_.frames; ++t) {
      const size_t frame = video.frames[clip.first + static_cast<uint64_t>(t) * windows_->stride()];
      const Image image = load_image(*files_, frame, limits_, fit_);
      require_shape(image, shape_, store_name(files_->name(frame)), "the first frame");
      sample.pixels.insert(sample.pixels.end(), image.pixels.begin(), image.pixels.end());
    }
    return sample;
  }

 private:
  void group() {
    std::vector<std::pair<std::string, size_t>> files;
    for (size_t i = 0; i < files_->size(); ++i) files.emplace_back(files_->name(i), i);
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) {
      const std::string a_folder = folder_of(a.first), b_folder = folder_of(b.first);
      return a_folder != b_folder ? a_folder < b_folder : natural_less(a.first, b.first);
    });
    for (const auto& [path, index] : files) {
      const std::string folder = folder_of(path);
      if (folder.empty()) {
        fail(Code::kUsage, "source.frames.path: ", printable(files_->root()), " holds the image ",
             store_name(path),
             " itself, expected one folder per video; give the folder above, or use source.folder");
      }
      if (videos_.empty() || videos_.back().folder != folder) videos_.push_back({folder, {}});
      videos_.back().frames.push_back(index);
    }
    std::vector<std::string> folders;
    const size_t shared =
        shared_folders(videos_.size(), [&](size_t i) { return videos_[i].folder; });
    for (const Video& video : videos_) {
      folders.push_back(first_folder(video.folder.substr(shared)));
    }
    classes_ = ClassNames(folders);
    for (size_t i = 0; i < videos_.size(); ++i) videos_[i].label = classes_.number(folders[i]);
  }

  ImageLimits limits_;
  Fit fit_;
  std::unique_ptr<ImageFiles> files_;
  std::vector<Video> videos_;
  ClassNames classes_;
  std::optional<Windows> windows_;
  ClipShape shape_;
};

}  // namespace

std::unique_ptr<Source> open_frames(const SourceConfig& config) {
  return std::make_unique<FrameVideos>(config);
}

}  // namespace lf
