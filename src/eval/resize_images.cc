#include "eval/resize_images.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "data/image/resize.h"

namespace lf {

at::Tensor resize_images(const at::Tensor& images_NHWC, int64_t height, int64_t width,
                         SourceConfig::Filter filter) {
  const at::Tensor from = images_NHWC.to(at::kCPU).contiguous();
  Image image{static_cast<int>(from.size(1)),
              static_cast<int>(from.size(2)),
              static_cast<int>(from.size(3)),
              {}};
  at::Tensor to = at::empty({from.size(0), height, width, from.size(3)}, at::kByte);
  const Box whole{0, 0, image.width, image.height};
  const auto bytes = static_cast<size_t>(image.height) * static_cast<size_t>(image.width) *
                     static_cast<size_t>(image.channels);
  const auto* in = from.const_data_ptr<uint8_t>();
  auto* out = to.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < from.size(0); ++i, in += bytes) {
    image.pixels.assign(in, in + bytes);
    const Image made =
        resize(image, whole, static_cast<int>(height), static_cast<int>(width), filter);
    out = std::copy(made.pixels.begin(), made.pixels.end(), out);
  }
  return to;
}

}  // namespace lf
