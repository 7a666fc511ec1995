// The table of metrics, and what each is computed from. Adding one: a function in the file of its
// kind and a row in metrics.cc. Names are honest: `fid` is Inception's 2048 features and nothing
// else.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "eval/codes.h"
#include "eval/moments.h"
#include "model/extractors/extractor.h"
#include "model/extractors/lpips.h"

namespace lf {

// What a metric is computed from.
enum class Evidence {
  kMoments,   // mean and covariance of two sets of features
  kFeatures,  // the features themselves
  kScores,    // class scores of the made images
  kPairs,     // images or videos and their counterparts
  kLooks,     // the same, by a network that compares how they look
  kCodes,     // indices into a codebook
};

// One set of images or videos as one layer of an extractor sees it.
struct FeatureSet {
  std::string name;  // a file, a folder, a store's id
  int64_t n = 0;     // samples; 0: an unknown number, of which only statistics are known
  Moments moments;
  at::Tensor features_ND;  // undefined where only statistics are known
  std::string hash;        // of what it was read from; "": unknown
  int64_t of = 0;          // samples there are, of which n were taken; 0: all were
};

struct MetricOptions {
  uint64_t seed = 0;            // of what is drawn
  int64_t neighbours = 0;       // 0: 3 for precision and recall, 5 for density and coverage
  int64_t reference_count = 0;  // images of the reference to compare with; 0: all
};

struct MetricValue {
  double value = 0;
  int64_t n = 0;                                     // samples it was found on
  std::vector<std::pair<std::string, double>> more;  // "deviation", "last_frame", ...
  std::vector<double> per_frame;                     // of a metric of pairs of videos
};

// The function that `needs` asks for is set; kLooks needs none, the network is the function.
struct Metric {
  const char* name;  // a trailing NAME stands for the extractor's
  const char* help;
  Evidence needs;
  const char* extractor;  // that it is bound to, or ""
  const char* layer;      // of the extractor; "": its last pooled one
  bool clips;             // of whole clips, not of their last frames
  MetricValue (*of_sets)(const FeatureSet& real, const FeatureSet& fake, const MetricOptions&);
  at::Tensor (*of_pairs)(const at::Tensor& real_NTHWC, const at::Tensor& fake_NTHWC);  // [N, T]
  MetricValue (*of_codes)(const CodeCounts& codes);
};
std::span<const Metric> metric_table();

// The row of a metric that is asked for, before its extractor is known. Code::kUsage if there is
// none for any.
const Metric& metric_named(const std::string& name);
// Whether MetricOptions::seed and MetricOptions::neighbours have a part in it.
bool uses_seed(const Metric& metric);
bool uses_neighbours(const Metric& metric);
// Whether it is of two sets, not of the made images alone.
bool compares(const Metric& metric);

// A metric that was asked for, by the name its result bears.
struct ChosenMetric {
  std::string name;
  const Metric* row = nullptr;
  std::string layer;   // of the extractor; "" where none is used
  int64_t pad_to = 0;  // frames that clips are padded to, by repeating their last; 0: none
};

// Whether a Frechet distance of so many samples is mostly bias: there are no more of them than
// features, so that their covariance has no full rank. `n` 0: an unknown number.
inline bool is_mostly_bias(int64_t n, int64_t dim) { return n > 0 && n <= dim; }

// "fid768,psnr" -> rows. Unknown or repeated names, and names that would be untrue of this
// extractor or of clips of `frames` frames, are Code::kUsage. `extractor` may be null: then the
// features come from a file, or none are needed. A clip too short for its extractor is refused
// unless the name states the padding: fvd_pad16.
std::vector<ChosenMetric> choose_metrics(const std::vector<std::string>& names,
                                         const Extractor* extractor, int64_t frames);

// Both sets checked: two samples or more, of one size, not all equal.
MetricValue compute_of_sets(const ChosenMetric& metric, const FeatureSet& real,
                            const FeatureSet& fake, const MetricOptions& options);

// A value a frame, [N, T]. Pixels are doubles in [0, 1]. `looks` is needed by lpips only, and may
// be null otherwise: Code::kUsage.
at::Tensor compute_of_pairs(const ChosenMetric& metric, const at::Tensor& real_NTHWC,
                            const at::Tensor& fake_NTHWC, const PairDistance* looks);

// Whether the metric compares images with their counterparts.
bool is_of_pairs(const ChosenMetric& metric);

// The mean over frames and videos of a table [N, T], each frame's mean, and the last one's.
MetricValue summarise_frames(const at::Tensor& values_NT);

}  // namespace lf
