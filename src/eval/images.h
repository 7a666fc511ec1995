// A set of images or clips, by number and as bytes: a folder, an array, a store.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "data/sources/source.h"
#include "data/store/store.h"

namespace lf {

class ImageSet {
 public:
  virtual ~ImageSet() = default;
  virtual std::string name() const = 0;  // what results call it: the path, or the store's id
  virtual std::string hash() const = 0;  // the store's id, that of an array's file; else ""
  virtual ClipShape shape() const = 0;
  virtual int64_t size() const = 0;
  // uint8 [count, T, H, W, C]. What cannot be read is Code::kData naming the image.
  virtual at::Tensor read(int64_t first, int64_t count) const = 0;
};

// A .npy array of bytes, the folder of a store, or a folder of images of one size.
std::unique_ptr<ImageSet> open_images(const std::string& path);
std::unique_ptr<ImageSet> images_of_store(std::shared_ptr<const Store> store);

}  // namespace lf
