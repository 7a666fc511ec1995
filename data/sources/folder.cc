// Source kind `folder`: image files of any size, flat or in class folders.
#include <algorithm>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

class FolderFiles : public ImageFiles {
 public:
  FolderFiles(const std::string& root, const char* option, bool follow_links)
      : root_(root), files_(find_files(root, option, image_files(), follow_links)) {}

  const std::string& root() const override { return root_; }
  size_t size() const override { return files_.size(); }
  std::string name(size_t index) const override { return files_.at(index).path; }
  std::string read(size_t index, uint64_t most) const override {
    const std::string path = path_to_open(root_, files_.at(index));
    try {
      const std::unique_ptr<InFile> in = real_file_system().open_read(path);
      check_image_file(in->size(), printable(path));
      std::string bytes(std::min(in->size(), most), '\0');
      in->read(0, bytes.data(), bytes.size());
      return bytes;
    } catch (const Error& unreadable) {
      fail(Code::kData, unreadable.what());
    }
  }

 private:
  std::string root_;
  std::vector<FoundFile> files_;
};

}  // namespace

std::unique_ptr<ImageFiles> find_images(const std::string& root, const char* option,
                                        bool follow_links) {
  return std::make_unique<FolderFiles>(root, option, follow_links);
}

std::unique_ptr<Source> open_folder(const SourceConfig& config) {
  constexpr const char* kOption = "source.folder.path";
  const FolderSource& folder = config.folder();
  return image_items(
      config, find_images(required_path(folder.path(), kOption), kOption, folder.follow_links()),
      kOption, folder.labels());
}

}  // namespace lf
