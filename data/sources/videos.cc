// Source kind `videos`: video files; a clip is a window of the frames of one, by their number.
#include <algorithm>
#include <array>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/host.h"
#include "base/log.h"
#include "base/parallel.h"
#include "data/sources/kinds.h"
#include "data/sources/video_list.h"
#include "data/video/support.h"
#include "data/video/video_file.h"

namespace lf {
namespace {

constexpr const char* kVideosPath = "source.videos.path";

struct VideoItem {
  FoundFile file;
  int64_t label = -1;
  VideoSummary summary;
  std::string broken;  // why no frame of it can be read
};

// Decoders that are open. One that has just read a clip goes on with the next clip of its video;
// there are never more than threads that load.
class OpenVideos {
 public:
  struct Open {
    uint64_t video = 0;
    std::unique_ptr<VideoReader> reader;
    std::vector<std::pair<uint64_t, Image>> recent;  // frames of its last clip, where they overlap
  };

  // One of this video, the nearest before `frame` if there are several; without a reader if none.
  Open take(uint64_t video, uint64_t frame) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = idle_.end();
    for (auto it = idle_.begin(); it != idle_.end(); ++it) {
      if (it->video != video) continue;
      if (best == idle_.end() || distance(*it, frame) < distance(*best, frame)) best = it;
    }
    if (best == idle_.end() && !idle_.empty()) {
      idle_.erase(idle_.begin());  // unused for longest
      return {video, nullptr, {}};
    }
    if (best == idle_.end()) return {video, nullptr, {}};
    Open open = std::move(*best);
    idle_.erase(best);
    return open;
  }

  void give_back(Open open) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(open));
  }

 private:
  // Further on is worse than any distance before.
  static uint64_t distance(const Open& open, uint64_t frame) {
    return frame - open.reader->position();  // wraps around
  }

  std::mutex mutex_;
  std::vector<Open> idle_;
};

class VideoFiles : public Source {
 public:
  explicit VideoFiles(const SourceConfig& config)
      : root_(required_path(config.videos().path(), kVideosPath)), fit_(config) {
    require_video_support();
    limits_.pixels = limits_of(config).pixels;
    find(config.videos());
    summarise();
    if (!fit_.has_size() && !fit_.has_crop()) require_one_video_size();
    set_up_windows(config.window());
    fit_.set_default_channels(3);
    shape_ = fit_.has_size() ? fit_.shape() : shape_of_first();
    shape_.frames = windows_->frames();
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return windows_->size(); }
  std::vector<std::string> label_names() const override { return label_names_; }
  std::string group_of(uint64_t index) const override {
    return store_name(videos_[(*windows_)(index).video].file.path);
  }
  std::string name_of(uint64_t index) const override {
    return str(group_of(index), ":", (*windows_)(index).first);  // the clip's first frame
  }

  Sample load(uint64_t index) const override {
    const Windows::Clip clip = (*windows_)(index);
    const VideoItem& video = videos_[clip.video];
    if (!video.broken.empty()) fail(Code::kData, video.broken);
    OpenVideos::Open open = open_.take(clip.video, clip.first);
    if (open.reader == nullptr) open.reader = reader_of(video);
    std::vector<std::pair<uint64_t, Image>> frames;
    try {
      frames = frames_of_clip(clip, open);
    } catch (const Error&) {
      // Else each later clip of a damaged video would be decoded from its beginning.
      open_.give_back(std::move(open));
      throw;
    }
    Sample sample{.pixels = {}, .label = video.label, .name = name_of(index), .side = {}};
    sample.pixels.reserve(shape_.bytes());
    for (const auto& [number, image] : frames) {
      sample.pixels.insert(sample.pixels.end(), image.pixels.begin(), image.pixels.end());
    }
    if (windows_->overlap()) open.recent = std::move(frames);
    open_.give_back(std::move(open));
    return sample;
  }

 private:
  void find(const VideosSource& config) {
    std::vector<FoundFile> files;
    FileInfo info;
    if (real_file_system().info(root_, &info) && !info.is_folder) {
      files.push_back({root_.substr(root_.rfind('/') + 1), "", true});  // named, so meant
      root_ = parent_folder(root_);
    } else {
      files = find_files(root_, kVideosPath, video_files(), false);
    }
    if (!config.list().empty()) {
      ListedVideos listed = read_video_list(config.list(), files);
      for (size_t i = 0; i < listed.files.size(); ++i) {
        videos_.push_back({files[listed.files[i]], listed.labels[i], {}, ""});
      }
      label_names_ = std::move(listed.label_names);
      return;
    }
    std::vector<std::string> folders;
    const size_t shared = shared_folders(files.size(), [&](size_t i) { return files[i].path; });
    for (const FoundFile& file : files) folders.push_back(first_folder(file.path.substr(shared)));
    const ClassNames classes(config.labels() ? folders : std::vector<std::string>());
    for (size_t i = 0; i < files.size(); ++i) {
      videos_.push_back({files[i], classes.number(folders[i]), {}, ""});
    }
    label_names_ = classes.stored();
  }

  void summarise() {
    constexpr size_t kMany = 1000;
    if (videos_.size() >= kMany) {
      LF_INFO("counting the frames of ", human_count(videos_.size()), " videos");
    }
    run_parallel(videos_.size(), threads_for(0, 1), [&](uint64_t i) {
      VideoItem& video = videos_[i];
      const std::string name = store_name(video.file.path);
      try {
        video.summary = summary_of_video(path_to_open(root_, video.file), limits_, name);
      } catch (const Error& error) {
        if (error.code() != Code::kData) throw;
        video.broken = error.what();
      }
    });
    const auto whole = std::find_if(videos_.begin(), videos_.end(),
                                    [](const VideoItem& video) { return video.broken.empty(); });
    if (whole == videos_.end()) {
      fail(Code::kData, kVideosPath, " ", printable(root_), ": none of the ",
           human_count(videos_.size()), " videos can be read; the first: ", videos_.front().broken);
    }
  }

  void require_one_video_size() const {
    std::vector<std::optional<ImageSize>> sizes;
    for (const VideoItem& video : videos_) {
      sizes.emplace_back();
      const ImageSize& size = video.summary.size;
      if (video.broken.empty() && size.height > 0 && size.width > 0) sizes.back() = size;
    }
    require_one_size(sizes, "videos", root_, kVideosPath);
  }

  // A broken video has one clip, which is left out with the reason.
  void set_up_windows(const WindowConfig& config) {
    std::vector<uint64_t> lengths;
    std::vector<std::string> names;
    uint64_t one_clip = static_cast<uint64_t>(std::max(config.frames(), 1) - 1) *
                            static_cast<uint64_t>(config.stride()) +
                        1;
    for (const VideoItem& video : videos_) {
      if (config.frames() == 0 && video.broken.empty()) one_clip = video.summary.frames;
    }
    for (const VideoItem& video : videos_) {
      lengths.push_back(video.broken.empty() ? video.summary.frames : one_clip);
      names.push_back(video.file.path);
    }
    windows_.emplace(config, lengths, names);
  }

  std::unique_ptr<VideoReader> reader_of(const VideoItem& video) const {
    return std::make_unique<VideoReader>(path_to_open(root_, video.file), limits_,
                                         store_name(video.file.path), video.summary.frames);
  }

  // Of the first frame that can be read.
  ClipShape shape_of_first() const {
    std::optional<Error> complaint;
    for (const VideoItem& video : videos_) {
      if (!video.broken.empty()) continue;
      try {
        ClipShape shape;
        constexpr uint64_t kFirst[] = {0};
        reader_of(video)->read(kFirst, [&](Image image) {
          shape = fit_(std::move(image), store_name(video.file.path)).shape();
        });
        return shape;
      } catch (const Error& error) {
        if (error.code() != Code::kData) throw;
        if (!complaint) complaint = error;
      }
    }
    throw Error(*complaint);  // summarise() found a video
  }

  // The clip's frames with their numbers.
  std::vector<std::pair<uint64_t, Image>> frames_of_clip(const Windows::Clip& clip,
                                                         OpenVideos::Open& open) const {
    const std::string name = store_name(videos_[clip.video].file.path);
    std::vector<std::pair<uint64_t, Image>> frames;
    std::vector<uint64_t> missing;
    for (int t = 0; t < shape_.frames; ++t) {
      const uint64_t number = clip.first + static_cast<uint64_t>(t) * windows_->stride();
      const auto at = std::find_if(open.recent.begin(), open.recent.end(),
                                   [&](const auto& frame) { return frame.first == number; });
      frames.emplace_back(number, at == open.recent.end() ? Image() : std::move(at->second));
      if (at == open.recent.end()) missing.push_back(number);
    }
    open.recent.clear();
    auto next = frames.begin();
    open.reader->read(missing, [&](Image image) {
      while (!next->second.pixels.empty()) ++next;
      next->second = fit_(std::move(image), name);
      require_shape(next->second, shape_, name, "the first frame");
    });
    return frames;
  }

  std::string root_;
  VideoLimits limits_;
  Fit fit_;
  std::vector<VideoItem> videos_;
  std::vector<std::string> label_names_;
  std::optional<Windows> windows_;
  ClipShape shape_;
  mutable OpenVideos open_;
};

}  // namespace

const FileKind& video_files() {
  static const FileKind kind{"videos", {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif"}};
  return kind;
}

std::unique_ptr<Source> open_videos(const SourceConfig& config) {
  return std::make_unique<VideoFiles>(config);
}

}  // namespace lf
