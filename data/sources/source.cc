// The table of kinds and the restriction to a split.
#include "data/sources/source.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr std::array<SourceKind, 8> kKinds = {{
    {"folder", "JPEG, PNG and WebP images in a folder, class folders as labels", open_folder},
    {"cifar", "CIFAR-10 or CIFAR-100, binary version", open_cifar},
    {"idx", "IDX files such as MNIST and Fashion-MNIST, .gz too", open_idx},
    {"npy", "a NumPy array of images or videos, Moving MNIST's file too", open_npy},
    {"frames", "real videos: a folder of folders of frames", open_frames},
    {"videos", "real videos: mp4, avi, mkv, webm and gif files", open_videos},
    {"archive", "images in zip and tar archives, read in place", open_archive},
    {"generated", "drawn scenes (shapes), bouncing digits (moving-digits, captioned-digits)",
     open_generated},
}};

SplitConfig::Part part_of(const SplitConfig& split, const std::string& group) {
  float u = 0;
  uniform({.seed = split.seed(), .purpose = Purpose::kSplit, .a = fnv1a(group)}, 0, 1, &u);
  if (u < split.validation()) return SplitConfig::VALIDATION;
  return u < split.validation() + split.test() ? SplitConfig::TEST : SplitConfig::TRAIN;
}

// The items of another source that belong to one part of a split, in its order.
class Part : public Source {
 public:
  Part(std::unique_ptr<Source> whole, const SplitConfig& split) : whole_(std::move(whole)) {
    for (uint64_t i = 0; i < whole_->size(); ++i) {
      if (part_of(split, whole_->group_of(i)) == split.part()) items_.push_back(i);
    }
    if (items_.empty()) {
      fail(Code::kUsage, "source.split.part=", SplitConfig::Part_Name(split.part()),
           " leaves none of the source's ", human_count(whole_->size()),
           " items; raise its share or take ALL");
    }
  }
  ClipShape shape() const override { return whole_->shape(); }
  uint64_t size() const override { return items_.size(); }
  std::vector<std::string> label_names() const override { return whole_->label_names(); }
  std::vector<SideColumn> side_columns() const override { return whole_->side_columns(); }
  Sample load(uint64_t index) const override { return whole_->load(items_.at(index)); }
  std::string name_of(uint64_t index) const override { return whole_->name_of(items_.at(index)); }
  std::string group_of(uint64_t index) const override { return whole_->group_of(items_.at(index)); }

 private:
  std::unique_ptr<Source> whole_;
  std::vector<uint64_t> items_;
};

ClipShape default_shape(const SourceConfig& config) {
  const int window = config.window().frames();
  switch (config.kind_case()) {
    case SourceConfig::kFolder:
      return {1, 0, 0, 3};
    case SourceConfig::kCifar:
      return {1, 32, 32, 3};
    case SourceConfig::kIdx:
      return {1, 0, 0, 0};
    case SourceConfig::kNpy: {
      const NpySource::Layout layout = config.npy().layout();
      const bool images =
          layout == NpySource::NHW || layout == NpySource::NHWC || layout == NpySource::NCHW;
      return {images ? 1 : window, 0, 0, layout == NpySource::NHW ? 1 : 0};
    }
    case SourceConfig::kArchive:
      return {1, 0, 0, 3};
    case SourceConfig::kFrames:
    case SourceConfig::kVideos:
      return {window, 0, 0, 3};
    case SourceConfig::kGenerated:
    case SourceConfig::KIND_NOT_SET:
      break;
  }
  return {};
}

// "" for a name that no kind reads.
std::string kind_by_name(const std::string& name) {
  return name.ends_with(".npy")             ? "npy"
         : is_called(name, archive_files()) ? "archive"
         : is_called(name, video_files())   ? "videos"
         : is_called(name, image_files())   ? "folder"
                                            : "";
}

// Of the first file below, in the order of names.
std::string kind_below(const std::string& folder, int depth) {
  constexpr int kDeepest = 8;
  std::error_code error;
  for (const std::string& name : real_file_system().list(folder)) {
    const std::string path = folder + "/" + name;
    if (name.front() == '.') continue;
    const bool look_into = depth < kDeepest && std::filesystem::is_directory(path, error) &&
                           !std::filesystem::is_symlink(path, error);
    std::string kind = look_into ? kind_below(path, depth + 1) : kind_by_name(name);
    if (!kind.empty() && kind != "npy") return kind;  // a folder of arrays is no source
  }
  return "";
}

}  // namespace

std::optional<ClipShape> shape_without_data(SourceConfig config) {
  if (config.has_generated()) {
    config.mutable_generated()->clear_idx();
    config.clear_embeddings();
    return open_source(config)->shape();
  }
  ClipShape shape = default_shape(config);
  Fit fit(config);
  // A crop box alone is the size, unless the source has one of its own.
  if (fit.has_crop() && shape.height == 0) {
    shape.height = config.crop().height();
    shape.width = config.crop().width();
  }
  fit.set_default_shape(shape);
  const int frames = shape.frames;
  shape = fit.shape();
  shape.frames = frames;
  const auto sides = shape.sides();
  if (std::find(sides.begin(), sides.end(), 0) != sides.end()) return std::nullopt;
  return shape;
}

std::span<const SourceKind> source_kinds() { return kKinds; }

std::string kind_at(const std::string& path) {
  FileInfo info;
  const bool is_folder = real_file_system().info(path, &info) && info.is_folder;
  const std::string kind = is_folder ? kind_below(path, 0) : kind_by_name(path);
  return kind.empty() ? "folder" : kind;
}

void set_path(SourceConfig& config, const std::string& kind, const std::string& path) {
  const auto* field = SourceConfig::descriptor()->FindFieldByName(kind);
  google::protobuf::Message* of_kind = config.GetReflection()->MutableMessage(&config, field);
  of_kind->GetReflection()->SetString(of_kind, field->message_type()->FindFieldByName("path"),
                                      path);
}

std::unique_ptr<Source> open_source(const SourceConfig& config) {
  const auto* oneof = SourceConfig::descriptor()->FindOneofByName("kind");
  const auto* chosen = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  if (chosen == nullptr) {
    std::vector<std::string> names;
    for (const SourceKind& kind : kKinds) names.emplace_back(kind.name);
    fail(Code::kUsage, "the config names no source; set one of source.{", join(names, ", "),
         "}, such as source.folder.path=FOLDER");
  }
  const SplitConfig& split = config.split();
  if (split.validation() + split.test() > 1) {
    fail(Code::kUsage, "source.split.validation and .test add up to ",
         split.validation() + split.test(), ", expected at most 1");
  }
  const auto* kind = std::find_if(kKinds.begin(), kKinds.end(),
                                  [&](const SourceKind& k) { return k.name == chosen->name(); });
  LF_CHECK(kind != kKinds.end(), "no row in the table of sources for ", chosen->name());
  std::unique_ptr<Source> source = kind->open(config);
  if (!config.embeddings().empty()) {
    source = with_embeddings(std::move(source), config.embeddings());
  }
  if (split.part() == SplitConfig::ALL) return source;
  return std::make_unique<Part>(std::move(source), split);
}

}  // namespace lf
