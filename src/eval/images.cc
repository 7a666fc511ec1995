#include "eval/images.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/file_hash.h"
#include "data/store/export.h"
#include "run/arrays.h"

namespace lf {
namespace {

at::Tensor empty_clips(int64_t count, const ClipShape& shape) {
  return at::empty({count, shape.frames, shape.height, shape.width, shape.channels}, at::kByte);
}

class SourceImages : public ImageSet {
 public:
  SourceImages(std::string name, std::unique_ptr<Source> source)
      : name_(std::move(name)), source_(std::move(source)) {}
  std::string name() const override { return name_; }
  std::string hash() const override { return name_.ends_with(".npy") ? hash_of_file(name_) : ""; }
  ClipShape shape() const override { return source_->shape(); }
  int64_t size() const override { return static_cast<int64_t>(source_->size()); }
  at::Tensor read(int64_t first, int64_t count) const override {
    at::Tensor clips = empty_clips(count, shape());
    auto* into = clips.mutable_data_ptr<uint8_t>();
    for (int64_t i = first; i < first + count; ++i) {
      const Sample sample = source_->load(static_cast<uint64_t>(i));
      LF_CHECK(sample.pixels.size() == shape().bytes());
      std::memcpy(into, sample.pixels.data(), sample.pixels.size());
      into += sample.pixels.size();
    }
    return clips;
  }

 private:
  std::string name_;
  std::unique_ptr<Source> source_;
};

class StoreImages : public ImageSet {
 public:
  explicit StoreImages(std::shared_ptr<const Store> store) : store_(std::move(store)) {}
  std::string name() const override { return store_->index().store_id(); }
  std::string hash() const override { return name(); }
  std::string cache() const override {
    std::string folder = store_->folder();
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    return folder + ".features";
  }
  ClipShape shape() const override { return store_->clip_shape(); }
  int64_t size() const override { return static_cast<int64_t>(store_->clips()); }
  at::Tensor read(int64_t first, int64_t count) const override {
    at::Tensor clips = empty_clips(count, shape());
    auto* into = clips.mutable_data_ptr<uint8_t>();
    for (int64_t i = first; i < first + count; ++i) {
      for (const Image& frame : clip_frames(*store_, static_cast<uint64_t>(i), 0)) {
        std::memcpy(into, frame.pixels.data(), frame.pixels.size());
        into += frame.pixels.size();
      }
    }
    return clips;
  }

 private:
  std::shared_ptr<const Store> store_;
};

class EvenlySpaced : public ImageSet {
 public:
  EvenlySpaced(std::unique_ptr<ImageSet> images, int64_t from, int64_t count)
      : images_(std::move(images)), from_(from), count_(count) {}
  std::string name() const override { return images_->name(); }
  std::string contents() const override {
    return count_ == from_ ? images_->contents()
                           : str(images_->contents(), "\n", count_, " of the first ", from_);
  }
  std::string cache() const override { return images_->cache(); }
  std::string hash() const override { return images_->hash(); }
  ClipShape shape() const override { return images_->shape(); }
  int64_t size() const override { return count_; }
  int64_t size_of_all() const override { return from_; }
  at::Tensor read(int64_t first, int64_t count) const override {
    if (count_ == from_) return images_->read(first, count);
    std::vector<at::Tensor> clips;
    for (int64_t i = first; i < first + count; ++i) {
      clips.push_back(images_->read(i * from_ / count_, 1));
    }
    return at::cat(clips);
  }

 private:
  std::unique_ptr<ImageSet> images_;
  int64_t from_, count_;
};

}  // namespace

std::unique_ptr<ImageSet> evenly_spaced(std::unique_ptr<ImageSet> images, int64_t from,
                                        int64_t count) {
  const int64_t all = std::min(from, images->size());
  return std::make_unique<EvenlySpaced>(std::move(images), all,
                                        count == 0 ? all : std::min(all, count));
}

std::unique_ptr<ImageSet> images_of_store(std::shared_ptr<const Store> store) {
  return std::make_unique<StoreImages>(std::move(store));
}

std::unique_ptr<ImageSet> open_images(const std::string& path) {
  if (real_file_system().exists(path + "/index")) return images_of_store(Store::open(path));
  SourceConfig config;
  set_path(config, kind_at(path), path);
  if (config.has_folder()) config.mutable_folder()->set_labels(false);
  if (config.has_archive()) config.mutable_archive()->set_labels(false);
  return std::make_unique<SourceImages>(path, open_source(config));
}

}  // namespace lf
