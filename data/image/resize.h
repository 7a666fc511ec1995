// Fits images of any size to the size of a run: crop, antialiased resize, grey or RGB. The
// arithmetic is specified to the bit and equals Pillow's: a filter as wide as the reduction,
// weights in 22-bit fixed point, columns first, rounded to bytes after each pass.
#pragma once

#include "data/image/image.h"
#include "run.pb.h"

namespace lf {

// A rectangle of whole pixels.
struct Box {
  int left = 0, top = 0, width = 0, height = 0;
};

// Resizes the box of the image; not by ADM, which crops too.
Image resize(const Image& image, const Box& box, int height, int width,
             SourceConfig::Filter filter = SourceConfig::BILINEAR);

// The centre of an image, side x side, as ADM prepares ImageNet.
Image adm_square(Image image, int side);

// The largest centred box of an image with the proportions height : width.
Box centred_box(const Image& image, int height, int width);

// The crop, size and channels that a config asks of every image.
class Fit {
 public:
  explicit Fit(const SourceConfig& config);

  // Of the fitted images; 0 where it is the image's own.
  const ClipShape& shape() const { return shape_; }
  bool has_size() const { return shape_.height != 0; }
  bool has_crop() const { return has_crop_; }

  void set_default_channels(int channels) {
    if (shape_.channels == 0) shape_.channels = channels;
  }
  // For sources that have a size of their own.
  void set_default_shape(const ClipShape& shape) {
    if (!has_size()) shape_.height = shape.height, shape_.width = shape.width;
    set_default_channels(shape.channels);
  }

  // Throws Code::kData if the image is smaller than the crop box.
  Image operator()(Image image, const std::string& name) const;

 private:
  ClipShape shape_;
  SourceConfig::Filter filter_;
  bool has_crop_;
  Box crop_;
};

}  // namespace lf
