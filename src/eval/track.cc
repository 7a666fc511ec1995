#include "eval/track.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/diff.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>

#include <algorithm>

#include "base/error.h"

namespace lf {
namespace {

constexpr int64_t kNumbers = 3;  // of a frame: x, y, weight
constexpr double kDark = 64;     // grey levels up to here are ground
constexpr double kReach = 2, kTolerance = 0.1;
constexpr int64_t kRowsAtOnce = 1024;

class TrackExtractor : public Extractor {
 public:
  explicit TrackExtractor(int64_t frames) : frames_(frames) {}
  std::string name() const override { return "track"; }
  std::string hash() const override { return "0000000000000002"; }  // of this definition
  std::vector<ExtractorLayer> layers() const override { return {{"track", kNumbers * frames_}}; }
  int64_t frames() const override { return frames_; }
  std::vector<at::Tensor> features(const at::Tensor& clips_NTHWC,
                                   const std::vector<std::string>& layers) override {
    if (clips_NTHWC.size(1) != frames_) {
      fail(Code::kUsage, "clips of ", clips_NTHWC.size(1), " frames are to be tracked, expected ",
           frames_, " as in the others");
    }
    const at::Tensor grey = clips_NTHWC.to(at::kFloat).mean(-1);
    const at::Tensor bright = (grey - kDark).clamp_min(0) / (255 - kDark);
    const at::Tensor weight = bright.sum({2, 3});
    const at::Tensor rows = at::arange(bright.size(2), bright.options()),
                     columns = at::arange(bright.size(3), bright.options());
    const auto centre = [&](const at::Tensor& moment) {
      return at::where(weight > 0, moment / weight.clamp_min(1e-6), -1);
    };
    const at::Tensor x = centre((bright.sum(2) * columns).sum(2)),
                     y = centre((bright.sum(3) * rows).sum(2));
    const at::Tensor track = at::stack({x, y, weight}, -1).flatten(1);
    return std::vector<at::Tensor>(layers.size(), track);
  }

 private:
  int64_t frames_;
};

at::Tensor all_frames(const at::Tensor& set_ND) {
  return set_ND.to(at::kDouble).reshape({-1, kNumbers});
}

// The integral of the distance between the two distribution functions.
double wasserstein(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor all = std::get<0>(at::cat({a, b}).sort());
  const at::Tensor below = all.slice(0, 0, all.size(0) - 1);
  const auto reached = [&](const at::Tensor& of) {
    return at::searchsorted(std::get<0>(of.sort()), below, false, true).to(at::kDouble) /
           of.size(0);
  };
  return ((reached(a) - reached(b)).abs() * all.diff()).sum().item<double>();
}

}  // namespace

std::unique_ptr<Extractor> make_track_extractor(int64_t frames) {
  return std::make_unique<TrackExtractor>(frames);
}

double track_distance(const at::Tensor& real_ND, const at::Tensor& fake_ND) {
  const at::Tensor real = all_frames(real_ND), fake = all_frames(fake_ND);
  return (wasserstein(real.select(1, 0), fake.select(1, 0)) +
          wasserstein(real.select(1, 1), fake.select(1, 1))) /
         2;
}

double track_outliers(const at::Tensor& real_ND, const at::Tensor& fake_ND) {
  const at::Tensor real = all_frames(real_ND), fake = all_frames(fake_ND);
  const at::Tensor sizes = real.select(1, 2);
  const at::Tensor smallest = sizes.min() * (1 - kTolerance),
                   largest = sizes.max() * (1 + kTolerance);
  int64_t outliers = 0;
  for (int64_t from = 0; from < fake.size(0); from += kRowsAtOnce) {
    const at::Tensor rows = fake.slice(0, from, from + kRowsAtOnce), size = rows.select(1, 2);
    const at::Tensor nearest =
        at::cdist(rows.slice(1, 0, 2), real.slice(1, 0, 2), 2, 2).amin(1);  // 2: no product's error
    const at::Tensor out =
        (nearest > kReach).logical_or(size < smallest).logical_or(size > largest);
    outliers += out.sum().item<int64_t>();
  }
  return 100.0 * static_cast<double>(outliers) / static_cast<double>(fake.size(0));
}

}  // namespace lf
