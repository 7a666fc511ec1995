// Source kind `folder`: image files of any size, flat or in class folders.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

class FolderImages : public Source {
 public:
  explicit FolderImages(const SourceConfig& config)
      : root_(required_path(config.folder().path(), "source.folder.path")),
        limits_(limits_of(config)),
        fit_(config),
        files_(find_images(root_, "source.folder.path", config.folder().follow_links())) {
    fit_.set_default_channels(3);
    if (!fit_.has_size() && !fit_.has_crop()) {
      require_one_size(root_, files_, limits_, "source.folder.path");
    }
    if (config.folder().labels()) {
      for (const ImageFile& file : files_) {
        const std::string folder = first_folder(file.path);
        // Files are sorted by path and so nearly by folder ("a-b/" comes before "a/").
        if (!folder.empty() && (classes_.empty() || classes_.back() != folder)) {
          classes_.push_back(folder);
        }
      }
      std::sort(classes_.begin(), classes_.end());
      classes_.erase(std::unique(classes_.begin(), classes_.end()), classes_.end());
    }
    shape_ = find_shape();
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return files_.size(); }
  std::string name_of(uint64_t index) const override { return store_name(files_.at(index).path); }

  std::vector<std::string> label_names() const override {
    std::vector<std::string> names;
    for (const std::string& folder : classes_) names.push_back(store_name(folder));
    return names;
  }

  Sample load(uint64_t index) const override {
    const ImageFile& file = files_.at(index);
    Image image = load_image(root_, file, limits_, fit_);
    if (image.height != shape_.height || image.width != shape_.width) {
      fail(Code::kData, store_name(file.path), " has ", image.width, "x", image.height,
           " pixels, the first image ", shape_.width, "x", shape_.height, "; set source.size");
    }
    return {.pixels = std::move(image.pixels),
            .label = label_of(file),
            .name = name_of(index),
            .side = {}};
  }

 private:
  int64_t label_of(const ImageFile& file) const {
    const std::string folder = first_folder(file.path);
    const auto at = std::lower_bound(classes_.begin(), classes_.end(), folder);
    return at != classes_.end() && *at == folder ? at - classes_.begin() : -1;
  }

  // The configured size, or that of the first readable image.
  ClipShape find_shape() const {
    if (fit_.has_size()) return fit_.shape();
    constexpr size_t kTries = 100;
    std::optional<Error> complaint;
    for (size_t i = 0; i < std::min(files_.size(), kTries); ++i) {
      try {
        return load_image(root_, files_[i], limits_, fit_).shape();
      } catch (const Error& error) {
        if (error.code() != Code::kData) throw;
        if (!complaint) complaint = error;
      }
    }
    fail(Code::kData, "source.folder.path ", printable(root_), ": none of the first ",
         std::min(files_.size(), kTries), " images can be read; the first: ", complaint->what());
  }

  std::string root_;
  ImageLimits limits_;
  Fit fit_;
  std::vector<ImageFile> files_;
  std::vector<std::string> classes_;
  ClipShape shape_;
};

}  // namespace

std::unique_ptr<Source> open_folder(const SourceConfig& config) {
  return std::make_unique<FolderImages>(config);
}

}  // namespace lf
