// Source kind `npy`: a .npy array of unsigned bytes that holds images or videos in one of several
// layouts. Frames are read one by one, so an array may be larger than memory.
#include <algorithm>
#include <optional>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {

NpyFile::NpyFile(const std::string& path)
    : name(printable(path)), file(real_file_system().open_read(path)) {
  std::vector<uint8_t> begin(std::min<uint64_t>(file->size(), kNpyHeaderBytes));
  file->read(0, begin.data(), begin.size());
  header = parse_npy_header(begin, file->size(), name);
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::vector<std::string> sizes;
  for (const uint64_t size : shape) sizes.push_back(std::to_string(size));
  return str("[", join(sizes, ", "), "]");
}

namespace {

bool is_channels(uint64_t size) { return size == 1 || size == 3; }

NpySource::Layout recognise(const NpyFile& array) {
  const std::vector<uint64_t>& s = array.header.shape;
  if (s.size() == 3) return NpySource::NHW;
  if (s.size() == 4 && is_channels(s[3])) return NpySource::NHWC;
  if (s.size() == 4 && s[0] == 20 && s[2] == 64 && s[3] == 64) return NpySource::TNHW;
  if (s.size() == 5 && is_channels(s[4])) return NpySource::NTHWC;
  fail(Code::kUsage, array.name, ": what do the dimensions ", shape_text(s),
       " mean? set source.npy.layout to NHW, NHWC, NCHW, NTHW, TNHW or NTHWC");
}

// The position of each dimension in a layout; -1: it has none.
struct Axes {
  int items, frames, height, width, channels;
};
Axes axes_of(NpySource::Layout layout) {
  switch (layout) {
    case NpySource::NHW:
      return {0, -1, 1, 2, -1};
    case NpySource::NHWC:
      return {0, -1, 1, 2, 3};
    case NpySource::NCHW:
      return {0, -1, 2, 3, 1};
    case NpySource::NTHW:
      return {0, 1, 2, 3, -1};
    case NpySource::TNHW:
      return {1, 0, 2, 3, -1};
    case NpySource::NTHWC:
      return {0, 1, 2, 3, 4};
    case NpySource::AUTO:
      break;
  }
  LF_CHECK(false, "the layout was not recognised");
}

class NpyItems : public Source {
 public:
  explicit NpyItems(const SourceConfig& config)
      : array_(required_file(config.npy().path(), "source.npy.path", ".npy")), fit_(config) {
    if (array_.header.item_bytes != 1 || array_.header.type.find('u') == std::string::npos) {
      fail(Code::kData, array_.name, ": elements of type '", array_.header.type,
           "', expected unsigned bytes ('|u1'); scale to 0..255 and save array.astype('uint8')");
    }
    const NpySource::Layout layout =
        config.npy().layout() != NpySource::AUTO ? config.npy().layout() : recognise(array_);
    read_shape(layout);
    if (!config.npy().labels().empty()) open_labels(config.npy().labels());
    if (frames_ == 1 && config.window().frames() > 1) {
      fail(Code::kUsage, "source.window.frames is ", config.window().frames(), " but ", array_.name,
           " holds images, not videos");
    }
    windows_.emplace(config.window(), items_, frames_);
    fit_.set_default_channels(stored_.channels);
    shape_ = fit_(black_image(stored_), array_.name).shape();
    shape_.frames = windows_->frames();
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return windows_->size(); }
  std::string group_of(uint64_t index) const override { return str("#", (*windows_)(index).video); }
  std::string name_of(uint64_t index) const override {
    const Windows::Clip clip = (*windows_)(index);
    return size() == items_ ? str("#", clip.video) : str("#", clip.video, "@", clip.first);
  }

  Sample load(uint64_t index) const override {
    const Windows::Clip clip = (*windows_)(index);
    Sample sample{.pixels = {}, .label = -1, .name = name_of(index), .side = {}};
    for (int t = 0; t < windows_->frames(); ++t) {
      const uint64_t frame = clip.first + static_cast<uint64_t>(t) * windows_->stride();
      const Image image = fit_(read_frame(clip.video, frame), array_.name);
      sample.pixels.insert(sample.pixels.end(), image.pixels.begin(), image.pixels.end());
    }
    if (labels_) sample.label = read_label(clip.video);
    return sample;
  }

 private:
  void read_shape(NpySource::Layout layout) {
    const std::vector<uint64_t>& s = array_.header.shape;
    const Axes axes = axes_of(layout);
    const size_t rank = 3 + (axes.frames >= 0) + (axes.channels >= 0);
    const auto size_at = [&](int axis) { return axis < 0 ? 1 : s[static_cast<size_t>(axis)]; };
    if (s.size() != rank || !is_channels(size_at(axes.channels)) || size_at(axes.height) > 32768 ||
        size_at(axes.width) > 32768) {
      fail(Code::kUsage, array_.name, ": dimensions ", shape_text(s),
           " do not fit source.npy.layout=", NpySource::Layout_Name(layout),
           " (channels 1 or 3, at most 32768 pixels on a side)");
    }
    items_ = size_at(axes.items);
    frames_ = size_at(axes.frames);
    stored_ = {1, static_cast<int>(size_at(axes.height)), static_cast<int>(size_at(axes.width)),
               static_cast<int>(size_at(axes.channels))};
    frame_first_ = layout == NpySource::TNHW;
    planes_ = layout == NpySource::NCHW;
  }

  Image read_frame(uint64_t item, uint64_t frame) const {
    Image image = black_image(stored_);
    const size_t bytes = image.pixels.size();
    const uint64_t at = frame_first_ ? frame * items_ + item : item * frames_ + frame;
    array_.file->read(array_.header.data_offset + at * bytes, image.pixels.data(), bytes);
    if (!planes_ || stored_.channels == 1) return image;
    Image interleaved = black_image(stored_);
    for (size_t i = 0; i < bytes / 3; ++i) {
      for (size_t c = 0; c < 3; ++c)
        interleaved.pixels[3 * i + c] = image.pixels[c * (bytes / 3) + i];
    }
    return interleaved;
  }

  void open_labels(const std::string& path) {
    labels_.emplace(required_file(path, "source.npy.labels", "labels"));
    const std::string& type = labels_->header.type;
    const bool whole = type.find_first_of("iu") != std::string::npos && type.front() != '>';
    if (!whole || labels_->header.shape != std::vector<uint64_t>{items_}) {
      fail(Code::kData, "source.npy.labels: ", labels_->name, " is ",
           shape_text(labels_->header.shape), " of type '", type, "', expected [", items_,
           "] little-endian integers");
    }
  }

  int64_t read_label(uint64_t item) const {
    const auto bytes = static_cast<size_t>(labels_->header.item_bytes);
    uint8_t raw[8];
    labels_->file->read(labels_->header.data_offset + item * bytes, raw, bytes);
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | raw[i];
    if (labels_->header.type.find('i') != std::string::npos && raw[bytes - 1] & 0x80 && bytes < 8) {
      value |= ~uint64_t{0} << 8 * bytes;  // sign
    }
    return static_cast<int64_t>(value);
  }

  NpyFile array_;
  Fit fit_;
  uint64_t items_ = 0, frames_ = 1;
  ClipShape stored_;  // of a frame in the file
  bool frame_first_ = false, planes_ = false;
  std::optional<NpyFile> labels_;
  std::optional<Windows> windows_;
  ClipShape shape_;
};

}  // namespace

std::unique_ptr<Source> open_npy(const SourceConfig& config) {
  return std::make_unique<NpyItems>(config);
}

}  // namespace lf
