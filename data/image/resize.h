// Fits images of any size to the size of a run: crop, antialiased resize, grey or RGB. The
// arithmetic is specified to the bit and equals Pillow's BILINEAR filter: a triangle filter as wide
// as the reduction, weights in 22-bit fixed point, columns first, rounded to bytes after each pass.
#pragma once

#include "data/image/image.h"
#include "run.pb.h"

namespace lf {

// A rectangle of whole pixels.
struct Box {
  int left = 0, top = 0, width = 0, height = 0;
};

// Resizes the box of the image.
Image resize(const Image& image, const Box& box, int height, int width);

// The largest centred box of an image with the proportions height : width.
Box centred_box(const Image& image, int height, int width);

// The crop, size and channels that a config asks of every image.
class Fit {
 public:
  explicit Fit(const SourceConfig& config);

  int height() const { return height_; }  // 0: the image's own
  int width() const { return width_; }
  int channels() const { return channels_; }
  void set_default_channels(int channels) {
    if (channels_ == 0) channels_ = channels;
  }
  // For sources that have a size of their own.
  void set_default_size(int height, int width) {
    if (height_ == 0) height_ = height, width_ = width;
  }

  bool has_crop() const { return has_crop_; }

  // Throws Code::kData if the image is smaller than the crop box.
  Image operator()(Image image, const std::string& name) const;

 private:
  int height_, width_, channels_;
  bool has_crop_;
  Box crop_;
};

}  // namespace lf
