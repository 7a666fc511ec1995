// Fitting pictures of any size to the size of a run: crop, antialiased resize, grey or RGB. The
// arithmetic is specified to the bit and is that of Pillow's BILINEAR filter: a triangle filter as
// wide as the reduction, weights in 22-bit fixed point, columns first, rounded to bytes after each
// pass. Called by the sources.
#pragma once

#include "data/image/image.h"
#include "run.pb.h"

namespace lf {

// A rectangle of whole pixels.
struct Box {
  int left = 0, top = 0, width = 0, height = 0;
};

// The box of the image, resized.
Image resize(const Image& image, const Box& box, int height, int width);

// The largest centred box of a picture that has the proportions height : width.
Box centred_box(const Image& image, int height, int width);

// What a config asks of every picture.
class Fit {
 public:
  explicit Fit(const SourceConfig& config);

  int height() const { return height_; }  // 0: as it comes
  int width() const { return width_; }
  int channels() const { return channels_; }
  void set_default_channels(int channels) {
    if (channels_ == 0) channels_ = channels;
  }
  // For sources that choose a size themselves.
  void set_default_size(int height, int width) {
    if (height_ == 0) height_ = height, width_ = width;
  }

  bool has_crop() const { return has_crop_; }

  // A crop box that does not lie in the picture is Code::kData.
  Image operator()(Image image, const std::string& name) const;

 private:
  int height_, width_, channels_;
  bool has_crop_;
  Box crop_;
};

}  // namespace lf
