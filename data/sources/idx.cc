// Source kind `idx`: grey images [N, H, W] (or [N, H, W, C]) with labels [N] from IDX files.
#include "data/formats/idx.h"

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

class IdxImages : public Source {
 public:
  explicit IdxImages(const SourceConfig& config)
      : images_(required_file(config.idx().path(), "source.idx.path", "images")), fit_(config) {
    const std::vector<uint64_t>& sizes = images_.header().sizes;
    const bool colour = sizes.size() == 4 && (sizes[3] == 1 || sizes[3] == 3);
    if (sizes.size() != 3 && !colour) {
      fail(Code::kUsage, "source.idx.path: ", images_.name(), " has rank ", sizes.size(),
           ", expected images [N, H, W]; is it the file of labels?");
    }
    if (sizes[1] > 32768 || sizes[2] > 32768) {
      fail(Code::kData, images_.name(), ": images of ", sizes[2], "x", sizes[1],
           " pixels; is the header damaged?");
    }
    stored_ = {1, static_cast<int>(sizes[1]), static_cast<int>(sizes[2]),
               colour ? static_cast<int>(sizes[3]) : 1};
    const std::string labels =
        config.idx().labels().empty()
            ? labels_beside(config.idx().path())
            : required_file(config.idx().labels(), "source.idx.labels", "labels");
    if (!labels.empty()) open_labels(labels);
    fit_.set_default_channels(stored_.channels);
    // Fitting a black image gives the resulting shape, and refuses a crop too large.
    shape_ = fit_(black_image(stored_), images_.name()).shape();
  }

  ClipShape shape() const override { return shape_; }
  uint64_t size() const override { return images_.header().items(); }
  std::string name_of(uint64_t index) const override { return str("#", index); }

  Sample load(uint64_t index) const override {
    Image image = black_image(stored_);
    images_.read(index, image.pixels.data());
    Sample sample{.pixels = fit_(std::move(image), images_.name()).pixels,
                  .label = -1,
                  .name = name_of(index),
                  .side = {}};
    uint8_t label = 0;
    if (labels_) {
      labels_->read(index, &label);
      sample.label = label;
    }
    return sample;
  }

 private:
  void open_labels(const std::string& path) {
    labels_ = std::make_unique<IdxFile>(path);
    if (labels_->header().item_bytes != 1 || labels_->header().items() != size()) {
      fail(Code::kData, labels_->name(), " holds ", labels_->header().items(), " labels, ",
           images_.name(), " ", size(), " images; do they belong together?");
    }
  }

  IdxFile images_;
  Fit fit_;
  std::unique_ptr<IdxFile> labels_;
  ClipShape stored_, shape_;  // in the file, fitted
};

}  // namespace

std::unique_ptr<Source> open_idx(const SourceConfig& config) {
  return std::make_unique<IdxImages>(config);
}

}  // namespace lf
