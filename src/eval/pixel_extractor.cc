#include "eval/pixel_extractor.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/adaptive_avg_pool2d.h>

#include "base/error.h"

namespace lf {
namespace {

constexpr int64_t kFields = 4;  // along each side

class PixelExtractor : public Extractor {
 public:
  explicit PixelExtractor(int64_t channels) : channels_(channels) {}
  std::string name() const override { return "pixels"; }
  std::string hash() const override { return "0000000000000001"; }  // of this definition
  std::vector<ExtractorLayer> layers() const override {
    return {{"pixels", channels_ * kFields * kFields}};
  }
  int64_t frames() const override { return 1; }
  std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                   const std::vector<std::string>& layers) override {
    LF_CHECK(clips_NTHWC.size(4) == channels_);
    const at::Tensor images = clips_NTHWC.select(1, -1).permute({0, 3, 1, 2}).to(at::kFloat) / 255;
    const at::Tensor fields = at::adaptive_avg_pool2d(images, {kFields, kFields}).flatten(1);
    return std::vector<at::Tensor>(layers.size(), fields);
  }

 private:
  int64_t channels_;
};

}  // namespace

std::unique_ptr<Extractor> make_pixel_extractor(int64_t channels) {
  return std::make_unique<PixelExtractor>(channels);
}

}  // namespace lf
