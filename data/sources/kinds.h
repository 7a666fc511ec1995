// What the kinds of sources share, and the functions in the table of source.cc. Internal to
// data/sources.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "data/formats/npy.h"
#include "data/image/image.h"
#include "data/image/resize.h"
#include "data/sources/source.h"

namespace lf {

std::unique_ptr<Source> open_folder(const SourceConfig& config);
std::unique_ptr<Source> open_cifar(const SourceConfig& config);
std::unique_ptr<Source> open_idx(const SourceConfig& config);
std::unique_ptr<Source> open_npy(const SourceConfig& config);
std::unique_ptr<Source> open_frames(const SourceConfig& config);
std::unique_ptr<Source> open_videos(const SourceConfig& config);
std::unique_ptr<Source> open_archive(const SourceConfig& config);
std::unique_ptr<Source> open_generated(const SourceConfig& config);
std::unique_ptr<Source> open_shapes(const SourceConfig& config);
std::unique_ptr<Source> open_moving_digits(const SourceConfig& config);
std::unique_ptr<Source> open_captioned_digits(const SourceConfig& config);

// `source` with a side column `embedding`, the rows of a .npy file of floats, each a vector or
// several.
std::unique_ptr<Source> with_embeddings(std::unique_ptr<Source> source, const std::string& path);

// An open .npy file with its parsed header. Throws Code::kData on damage.
struct NpyFile {
  explicit NpyFile(const std::string& path);
  std::string name;
  std::unique_ptr<InFile> file;
  NpyHeader header;
};
std::string shape_text(const std::vector<uint64_t>& shape);

// Returns `path`; throws Code::kUsage naming `option` if it is empty.
const std::string& required_path(const std::string& path, const char* option);
// The same if it is no file; names the file that may be meant: for a folder one in it whose name
// holds `like`, for a missing file the one with or without .gz.
const std::string& required_file(const std::string& path, const char* option, const char* like);

// What files of a kind are called.
struct FileKind {
  const char* plural;
  std::vector<std::string> endings;  // of their names, small; in any case
};
bool is_called(std::string_view name, const FileKind& kind);
[[noreturn]] void refuse_none(const char* option, const std::string& where, const FileKind& kind);

// A file found below a root. Its name may hold anything a file system allows.
struct FoundFile {
  std::string path;     // relative to the root, '/' between parts
  std::string refused;  // why it is never opened, "" if it may be
  bool linked = false;  // may be a link out of the root
};

// Lists every file of a kind below ROOT in byte order of the names. Links out of ROOT are listed as
// refused; links to folders, special files and other names are left out and counted in a warning,
// hidden names silently. With `follow_links` links are what they lead to; one to a folder that it
// lies in is left out. Throws Code::kUsage if the folder is missing or holds none.
std::vector<FoundFile> find_files(const std::string& root, const char* option, const FileKind& kind,
                                  bool follow_links);

// Where one of them is. Checked again: what was a file or a good link when the folder was listed
// may be a pipe by now. Throws Code::kData.
std::string path_to_open(const std::string& root, const FoundFile& file);

// Image files in one place, such as a folder, by number. Thread-safe.
class ImageFiles {
 public:
  enum class Labels { kNone, kFolders, kNumbers };

  virtual ~ImageFiles() = default;
  virtual const std::string& root() const = 0;
  virtual size_t size() const = 0;
  virtual std::string name(size_t index) const = 0;
  // The first bytes of the file, at most `most`. Throws Code::kData.
  virtual std::string read(size_t index, uint64_t most) const = 0;
  // Whether its place labels an image by a folder of its path, or by a number.
  virtual Labels labels() const { return Labels::kFolders; }
  virtual std::string labelled_path(size_t index) const { return name(index); }
  virtual int64_t label(size_t /*index*/) const { return -1; }
};

const FileKind& image_files();
const FileKind& archive_files();
const FileKind& video_files();
// The limits of images decoded for this config.
ImageLimits limits_of(const SourceConfig& config);
// Throws Code::kData if the file is too large to be an image.
void check_image_file(uint64_t bytes, const std::string& name);

// Those of a folder.
std::unique_ptr<ImageFiles> find_images(const std::string& root, const char* option,
                                        bool follow_links = false);

// Looks at the headers of at most 1,000 of the files, evenly chosen. Throws Code::kUsage if those
// within the limits differ in size, with the sizes seen and the options of `source` to set.
void require_one_size(const ImageFiles& files, const ImageLimits& limits, const char* option);
// The same for sizes that are known; those of files that cannot be read are not.
void require_one_size(std::span<const std::optional<ImageSize>> sizes, const char* plural,
                      const std::string& root, const char* option);

// Throws Code::kData unless the image of this name has the height and width of `first`.
void require_shape(const Image& image, const ClipShape& shape, const std::string& name,
                   const char* first);

// Reads, decodes and fits one of them. Throws Code::kData.
Image load_image(const ImageFiles& files, size_t index, const ImageLimits& limits, const Fit& fit);

// Each of them is an item.
std::unique_ptr<Source> image_items(const SourceConfig& config, std::unique_ptr<ImageFiles> files,
                                    const char* option, bool labels);

// The first folder of a relative path, "" if it has none.
std::string first_folder(const std::string& path);

// The length of the folders that all paths begin with, such as "train/" in an archive of one
// folder; labels are the folders below. One that holds a file itself is its label, and not counted.
size_t shared_folders(size_t count, const std::function<std::string(size_t)>& path);

// Classes, numbered from 0 in the order of their names.
class ClassNames {
 public:
  ClassNames() = default;
  explicit ClassNames(std::vector<std::string> names);  // in any order and number; "" is none
  int64_t number(const std::string& name) const;        // -1 for none
  std::vector<std::string> stored() const;

 private:
  std::vector<std::string> names_;
};

// Cuts videos into clips of `frames` frames that are `stride` apart; clips begin `hop` apart.
class Windows {
 public:
  // lengths[v]: frames of video v. Throws Code::kUsage, naming a video, if config.frames is 0 and
  // they differ.
  Windows(const WindowConfig& config, std::vector<uint64_t> lengths,
          const std::vector<std::string>& names);
  Windows(const WindowConfig& config, uint64_t videos, uint64_t length);

  int frames() const { return frames_; }
  uint64_t size() const;
  struct Clip {
    uint64_t video, first;  // its first frame; the others follow every stride() frames
  };
  Clip operator()(uint64_t index) const;
  uint64_t stride() const { return stride_; }
  // Frames of a video from a clip's first to its last.
  uint64_t span() const { return (static_cast<uint64_t>(frames_) - 1) * stride_ + 1; }
  bool overlap() const { return hop_ < span(); }

 private:
  void set_up(const WindowConfig& config, uint64_t whole);
  uint64_t windows_in(uint64_t length) const;

  int frames_ = 0;
  uint64_t stride_ = 1, hop_ = 1;
  uint64_t videos_ = 0, each_ = 0;  // when all videos are equally long
  std::vector<uint64_t> ends_;      // otherwise: windows of videos 0..v
};

// A name in the form a store keeps it: printable, on one line, never cut.
std::string store_name(const std::string& name);

}  // namespace lf
