#include "train/post_hoc.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/retention.h"
#include "config/config.h"
#include "run/adapters.h"
#include "train/ema.h"

namespace lf {
namespace {

constexpr double kPoorFit = 0.1;  // of the profiles; the averages' own error is some times smaller

// The integral of the product of two profiles (g + 1) x^g / n^(g + 1) over 0 < x < n.
double overlap(const TrackedAverage& a, const TrackedAverage& b) {
  const TrackedAverage& late = a.images < b.images ? b : a;
  const TrackedAverage& early = a.images < b.images ? a : b;
  const double g_late = ema_exponent(late.width), g_early = ema_exponent(early.width);
  const auto n_late = static_cast<double>(late.images);
  const auto n_early = static_cast<double>(early.images);
  return (g_late + 1) * (g_early + 1) * std::pow(n_early / n_late, g_late) /
         ((g_late + g_early + 1) * n_late);
}

struct Source {
  Checkpoint checkpoint;
  std::string kind;
};

}  // namespace

std::string tracked_kind(size_t i) {
  if (i >= 26) fail(Code::kUsage, "train.ema.tracked_widths has more than 26 entries; two serve");
  return std::string("ema-") + static_cast<char>('a' + i);
}

PostHoc combine_averages(const std::vector<TrackedAverage>& tracked, const TrackedAverage& wanted) {
  const auto count = static_cast<int64_t>(tracked.size());
  LF_CHECK(count > 0, "no averages to combine");
  at::Tensor overlaps = at::empty({count, count}, at::kDouble);
  at::Tensor with_wanted = at::empty({count}, at::kDouble);
  for (int64_t i = 0; i < count; ++i) {
    const TrackedAverage& one = tracked[static_cast<size_t>(i)];
    LF_CHECK(one.images <= wanted.images, "an average of a later moment");
    with_wanted[i] = overlap(one, wanted);
    for (int64_t j = 0; j < count; ++j) {
      overlaps[i][j] = overlap(one, tracked[static_cast<size_t>(j)]);
    }
  }
  // Neighbours are nearly equal, so the system is close to singular; equal ones may be among them.
  at::Tensor shares = at::linalg_pinv(overlaps, 1e-13, /*hermitian=*/true).matmul(with_wanted);
  shares = shares / shares.sum();
  const double norm = overlap(wanted, wanted);
  const double misfit = norm - 2 * shares.dot(with_wanted).item<double>() +
                        shares.dot(overlaps.matmul(shares)).item<double>();
  const auto* data = shares.const_data_ptr<double>();
  return {{data, data + count}, std::sqrt(std::max(0.0, misfit / norm))};
}

void export_average(FileSystem& files, const std::string& run_folder, double width,
                    const std::string& out) {
  std::vector<TrackedAverage> tracked;
  std::vector<Source> sources;
  TrackedAverage wanted{width, 0};
  for (const Candidate& candidate : list_checkpoints(files, run_folder, Depth::kQuick)) {
    if (!candidate.valid()) continue;
    wanted.images = std::max(wanted.images, candidate.images);
    const Config config = parse_config(candidate.manifest.config(), candidate.folder);
    const auto& widths = config.train().ema().tracked_widths();
    for (int i = 0; i < widths.size(); ++i) {
      tracked.push_back({widths[i], candidate.images});
      sources.push_back(
          {Checkpoint::open(files, candidate.folder), tracked_kind(static_cast<size_t>(i))});
    }
  }
  if (sources.empty()) {
    fail(Code::kUsage, "the checkpoints of ", printable(run_folder),
         " track no averages to make another from; train with train.ema.tracked_widths=0.05,0.1 "
         "and checkpoint.keep_every_images, or export without --ema-width");
  }
  const PostHoc mix = combine_averages(tracked, wanted);
  const Source& newest = sources.front();
  std::vector<TensorLayout> layouts = newest.checkpoint.layouts(newest.kind);
  std::set<std::string> averaged;
  for (const TensorLayout& layout : layouts) averaged.insert(layout.name);
  for (const TensorLayout& layout : newest.checkpoint.layouts("model")) {
    if (!averaged.contains(layout.name)) layouts.push_back(layout);  // no gradient moves it
  }
  LoadableTensors tensors{layouts, [&](const std::string& name) {
                            if (!averaged.contains(name)) {
                              return newest.checkpoint.load("model", name);
                            }
                            at::Tensor sum;
                            for (size_t i = 0; i < sources.size(); ++i) {
                              const at::Tensor one =
                                  sources[i].checkpoint.load(sources[i].kind, name);
                              if (i == 0) sum = at::zeros(one.sizes(), at::kDouble);
                              sum.add_(one, mix.shares[i]);
                            }
                            return sum.to(at::kFloat);
                          }};
  TensorMetadata metadata = newest.checkpoint.export_metadata("ema");
  const Config config = parse_config(metadata.at("config"), newest.checkpoint.folder());
  if (config.train().lora().rank() > 0) {
    tensors = with_merged_adapters(std::move(tensors), config);
    metadata = metadata_without_adapters(std::move(metadata));
  }
  metadata["ema_width"] = str(width);
  metadata["images"] = std::to_string(wanted.images);
  publish_tensor_file(files, out, tensors.layouts, metadata,
                      [&](const TensorLayout& layout) { return tensors.load(layout.name); });
  LF_INFO("made the average of width ", width, " at image ", wanted.images, " from ",
          sources.size(), " tracked ones; its profile over training is met within ",
          std::round(1000 * mix.misfit) / 10, " %");
  if (mix.misfit > kPoorFit) {
    LF_WARN(
        "too few tracked averages for this width: keep more checkpoints of such a run "
        "(checkpoint.keep_every_images), or take a width nearer to those tracked");
  }
}

}  // namespace lf
