// A set of images or clips, by number and as bytes: files, an array, a store.
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
  // All that decides its bytes, for the keys of what is kept.
  virtual std::string contents() const { return name(); }
  // The folder beside a store where what is computed of it is kept for every run; "": there is
  // none.
  virtual std::string cache() const { return {}; }
  virtual std::string hash() const = 0;  // the store's id, that of an array's file; else ""
  virtual ClipShape shape() const = 0;
  virtual int64_t size() const = 0;
  virtual int64_t size_of_all() const { return size(); }  // of what it was taken from
  // uint8 [count, T, H, W, C]. What cannot be read is Code::kData naming the image.
  virtual at::Tensor read(int64_t first, int64_t count) const = 0;
};

// A .npy array of bytes, the folder of a store, or images of one size in a folder or in archives,
// or videos of one size and length.
std::unique_ptr<ImageSet> open_images(const std::string& path);
std::unique_ptr<ImageSet> images_of_store(std::shared_ptr<const Store> store);

// Of the first `from` images `count`, evenly spaced; all of these if `count` is 0 or not less.
std::unique_ptr<ImageSet> evenly_spaced(std::unique_ptr<ImageSet> images, int64_t from,
                                        int64_t count);

}  // namespace lf
