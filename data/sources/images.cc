// Image files as items, whatever holds them: decoding, one size for all, class labels.
#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

using Bytes = std::span<const uint8_t>;

Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Nothing if the file cannot be read or begins with no header.
std::optional<ImageSize> size_of(const ImageFiles& files, size_t index) {
  constexpr uint64_t kBeginning = 256 << 10;  // has the header of nearly every photo
  try {
    return size_in_header(bytes_of(files.read(index, kBeginning)));
  } catch (const Error&) {
    return std::nullopt;  // the build leaves it out, and says why
  }
}

struct SizesSeen {
  std::map<ImageSize, size_t> counts;
  size_t images = 0;

  // Sizes, the most frequent first.
  std::vector<ImageSize> by_frequency() const {
    std::vector<ImageSize> sizes;
    for (const auto& [size, count] : counts) sizes.push_back(size);
    std::stable_sort(sizes.begin(), sizes.end(), [&](const ImageSize& a, const ImageSize& b) {
      return counts.at(a) > counts.at(b);
    });
    return sizes;
  }

  // "200 of 512x512, 90 of 500x375 and 10 of 7 other sizes", width first.
  std::string text() const {
    constexpr size_t kNamed = 3;
    const std::vector<ImageSize> sizes = by_frequency();
    const size_t named = sizes.size() <= kNamed + 1 ? sizes.size() : kNamed;
    std::vector<std::string> words;
    size_t left = images;
    for (size_t i = 0; i < named; ++i) {
      words.push_back(str(counts.at(sizes[i]), " of ", sizes[i].width, "x", sizes[i].height));
      left -= counts.at(sizes[i]);
    }
    if (left > 0) words.push_back(str(left, " of ", sizes.size() - named, " other sizes"));
    const std::string last = words.back();
    words.pop_back();
    return join(words, ", ") + " and " + last;
  }

  // The size of most images; else the largest usual one that nine in ten need not be enlarged to.
  std::string suggestion() const {
    constexpr int kLargest = 256;
    const ImageSize most = by_frequency().front();
    if (2 * counts.at(most) > images && std::max(most.height, most.width) <= kLargest) {
      return str("source.size=", most.height,
                 most.width == most.height ? "" : str(" and source.width=", most.width));
    }
    std::vector<int> sides;
    for (const auto& [size, count] : counts) {
      sides.insert(sides.end(), count, std::min(size.height, size.width));
    }
    std::sort(sides.begin(), sides.end());
    const int side = sides[sides.size() / 10];
    for (const int usual : {256, 128, 64, 32}) {
      if (usual <= side) return str("source.size=", usual);
    }
    return str("source.size=", side);
  }
};

}  // namespace

const FileKind& image_files() {
  static const FileKind kind{"images", {".jpg", ".jpeg", ".png", ".webp"}};
  return kind;
}

ImageLimits limits_of(const SourceConfig& config) {
  return {.pixels = static_cast<uint64_t>(config.max_megapixels() * 1e6)};
}

void check_image_file(uint64_t bytes, const std::string& name) {
  constexpr uint64_t kLargest = uint64_t{256} << 20;
  if (bytes <= kLargest) return;
  fail(Code::kData, name, " has ", human_bytes(bytes), ", at most ", human_bytes(kLargest),
       " are read; is it an image?");
}

void require_one_size(const ImageFiles& files, const ImageLimits& limits, const char* option) {
  constexpr size_t kMostFiles = 1000;
  const size_t count = std::min(files.size(), kMostFiles);
  std::vector<std::optional<ImageSize>> sizes(count);
  // Threads wait for the disk, not for a core.
  run_parallel(count, 8, [&](size_t i) { sizes[i] = size_of(files, i * files.size() / count); });
  for (std::optional<ImageSize>& size : sizes) {
    if (size &&
        static_cast<uint64_t>(size->height) * static_cast<uint64_t>(size->width) > limits.pixels) {
      size.reset();
    }
  }
  require_one_size(sizes, "images", files.root(), option);
}

void require_one_size(std::span<const std::optional<ImageSize>> sizes, const char* plural,
                      const std::string& root, const char* option) {
  SizesSeen seen;
  for (const std::optional<ImageSize>& size : sizes) {
    if (!size) continue;
    ++seen.counts[*size];
    ++seen.images;
  }
  if (seen.counts.size() < 2) return;
  fail(Code::kUsage, option, ": the ", plural, " of ", printable(root), " differ in size: of ",
       human_count(seen.images), " looked at, ", seen.text(),
       "; set the one that all are to have, such as ", seen.suggestion(),
       " (a centre crop, resized)");
}

void require_shape(const Image& image, const ClipShape& shape, const std::string& name,
                   const char* first) {
  if (image.height == shape.height && image.width == shape.width) return;
  fail(Code::kData, name, " has ", image.width, "x", image.height, " pixels, ", first, " ",
       shape.width, "x", shape.height, "; set source.size");
}

Image load_image(const ImageFiles& files, size_t index, const ImageLimits& limits, const Fit& fit) {
  const std::string name = store_name(files.name(index));
  const std::string bytes = files.read(index, UINT64_MAX);
  return fit(decode_image(bytes_of(bytes), limits, name), name);
}

namespace {

class ImageItems : public Source {
 public:
  ImageItems(const SourceConfig& config, std::unique_ptr<ImageFiles> files, const char* option,
             bool labels)
      : limits_(limits_of(config)),
        fit_(config),
        files_(std::move(files)),
        labels_(labels ? files_->labels() : ImageFiles::Labels::kNone) {
    fit_.set_default_channels(3);
    if (!fit_.has_size() && !fit_.has_crop()) require_one_size(*files_, limits_, option);
    if (labels_ == ImageFiles::Labels::kFolders) find_classes();
    shape_ = find_shape(option);
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return files_->size(); }
  std::string name_of(uint64_t index) const override { return store_name(files_->name(index)); }

  std::vector<std::string> label_names() const override { return classes_.stored(); }

  Sample load(uint64_t index) const override {
    Image image = load_image(*files_, index, limits_, fit_);
    require_shape(image, shape_, name_of(index), "the first image");
    return {.pixels = std::move(image.pixels),
            .label = label_of(index),
            .name = name_of(index),
            .side = {}};
  }

 private:
  void find_classes() {
    shared_ = shared_folders(files_->size(), [&](size_t i) { return files_->labelled_path(i); });
    std::vector<std::string> folders;
    for (size_t i = 0; i < files_->size(); ++i) {
      // Files are sorted by path, so those of a folder are nearly in a row.
      std::string folder = folder_of(i);
      if (folders.empty() || folders.back() != folder) folders.push_back(std::move(folder));
    }
    classes_ = ClassNames(std::move(folders));
  }

  std::string folder_of(size_t index) const {
    return first_folder(files_->labelled_path(index).substr(shared_));
  }

  int64_t label_of(size_t index) const {
    return labels_ == ImageFiles::Labels::kNone      ? -1
           : labels_ == ImageFiles::Labels::kNumbers ? files_->label(index)
                                                     : classes_.number(folder_of(index));
  }

  // The configured size, or that of the first readable image.
  ClipShape find_shape(const char* option) const {
    if (fit_.has_size()) return fit_.shape();
    constexpr size_t kTries = 100;
    const size_t tries = std::min(files_->size(), kTries);
    std::optional<Error> complaint;
    for (size_t i = 0; i < tries; ++i) {
      try {
        return load_image(*files_, i, limits_, fit_).shape();
      } catch (const Error& error) {
        if (error.code() != Code::kData) throw;
        if (!complaint) complaint = error;
      }
    }
    fail(Code::kData, option, " ", printable(files_->root()), ": none of the first ", tries,
         " images can be read; the first: ", complaint->what());
  }

  ImageLimits limits_;
  Fit fit_;
  std::unique_ptr<ImageFiles> files_;
  ImageFiles::Labels labels_;
  size_t shared_ = 0;  // bytes of labelled paths before the folder that is the label
  ClassNames classes_;
  ClipShape shape_;
};

}  // namespace

std::unique_ptr<Source> image_items(const SourceConfig& config, std::unique_ptr<ImageFiles> files,
                                    const char* option, bool labels) {
  return std::make_unique<ImageItems>(config, std::move(files), option, labels);
}

}  // namespace lf
