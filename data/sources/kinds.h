// What the kinds of sources share, and how the table in source.cc reaches them; included by
// source*.cc only.
#pragma once

#include <memory>
#include <span>
#include <string>
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
std::unique_ptr<Source> open_generated(const SourceConfig& config);
std::unique_ptr<Source> open_shapes(const SourceConfig& config);
std::unique_ptr<Source> open_moving_digits(const SourceConfig& config);

// The same source with a side column `embedding`: the rows of a .npy file of floats.
std::unique_ptr<Source> with_embeddings(std::unique_ptr<Source> source, const std::string& path);

// A .npy file, opened, to be read by position. Damage is Code::kData.
struct NpyFile {
  explicit NpyFile(const std::string& path);
  std::string name;
  std::unique_ptr<InFile> file;
  NpyHeader header;
};
std::string shape_text(const std::vector<uint64_t>& shape);

// A path option that must be given.
const std::string& required_path(const std::string& path, const char* option);

// Images are whole numbers of files with these limits.
ImageLimits limits_of(const SourceConfig& config);

// An image file found below a root. Its name may be anything a file system allows.
struct ImageFile {
  std::string path;     // relative to the root, '/' between parts
  std::string refused;  // why it is never opened, "" if it may be
};

// Every .jpg, .jpeg and .png (in any case) below ROOT, by the order of the names' bytes. Links out
// of ROOT are listed but refused; links to folders, special files, hidden names and other endings
// are left out, and a warning says how many. A missing folder is Code::kUsage.
std::vector<ImageFile> find_images(const std::string& root, const char* option);

// Reads, decodes and fits one of them; anything wrong is Code::kData.
Image load_image(const std::string& root, const ImageFile& file, const ImageLimits& limits,
                 const Fit& fit);

// The first folder of a relative path, "" if there is none.
std::string first_folder(const std::string& path);

// Which frames of videos make clips: `frames` of them, `stride` apart, clips `hop` apart.
class Windows {
 public:
  // lengths[v]: frames of video v. With config.frames 0 all must be equal (Code::kUsage, naming a
  // video by `name_of`).
  Windows(const WindowConfig& config, std::vector<uint64_t> lengths,
          const std::vector<std::string>& names);
  Windows(const WindowConfig& config, uint64_t videos, uint64_t length);

  int frames() const { return frames_; }
  uint64_t size() const;
  struct Place {
    uint64_t video, first;  // and then every stride-th frame
  };
  Place operator()(uint64_t index) const;
  uint64_t stride() const { return stride_; }

 private:
  void set_up(const WindowConfig& config, uint64_t whole);
  uint64_t windows_in(uint64_t length) const;

  int frames_ = 0;
  uint64_t stride_ = 1, hop_ = 1;
  uint64_t videos_ = 0, each_ = 0;  // when all videos are equally long
  std::vector<uint64_t> ends_;      // otherwise: windows of videos 0..v
};

// A name as it goes into a store: printable, on one line, never cut.
std::string store_name(const std::string& name);

}  // namespace lf
