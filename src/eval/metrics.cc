#include "eval/metrics.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "eval/distribution.h"
#include "eval/frechet.h"
#include "eval/pairs.h"
#include "eval/track.h"

namespace lf {
namespace {

constexpr int64_t kSubsets = 100, kSubsetSize = 1000, kSplits = 10;

MetricValue frechet(const FeatureSet& real, const FeatureSet& fake, const MetricOptions&) {
  MetricValue out{frechet_distance(real.moments, fake.moments), fake.n, {}, {}};
  const int64_t dim = real.moments.dim();
  if (is_mostly_bias(real.n, dim) || is_mostly_bias(fake.n, dim)) {
    out.more.emplace_back("few_samples", 1);
  }
  return out;
}

MetricValue kid(const FeatureSet& real, const FeatureSet& fake, const MetricOptions&) {
  return {kernel_distance(real.features_ND, fake.features_ND), fake.n, {}, {}};
}

MetricValue kid_subsets(const FeatureSet& real, const FeatureSet& fake,
                        const MetricOptions& options) {
  const Spread kid = kernel_distance_of_subsets(real.features_ND, fake.features_ND, kSubsets,
                                                kSubsetSize, options.seed);
  return {kid.mean, fake.n, {{"deviation", kid.deviation}}, {}};
}

MetricValue score(const FeatureSet&, const FeatureSet& fake, const MetricOptions&) {
  const Spread score = inception_score(fake.features_ND, kSplits);
  return {score.mean, fake.n, {{"deviation", score.deviation}}, {}};
}

// One of the four; each row has the neighbours its authors took.
template <double Manifold::*member, int64_t usual>
MetricValue neighbour_metric(const FeatureSet& real, const FeatureSet& fake,
                             const MetricOptions& options) {
  const int64_t k = options.neighbours > 0 ? options.neighbours : usual;
  return {manifold(real.features_ND, fake.features_ND, k).*member,
          fake.n,
          {{"neighbours", static_cast<double>(k)}},
          {}};
}

template <double function(const at::Tensor&, const at::Tensor&)>
MetricValue track_metric(const FeatureSet& real, const FeatureSet& fake, const MetricOptions&) {
  return {function(real.features_ND, fake.features_ND), fake.n, {}, {}};
}

at::Tensor crps(const at::Tensor& real, const at::Tensor& fake) {
  return crps_of_frames(real, fake.dim() == real.dim() ? fake.unsqueeze(0) : fake);
}

template <double CodeUse::*member>
MetricValue code_metric(const CodeCounts& codes) {
  return {code_use(codes).*member, codes.images, {}, {}};
}

constexpr Metric of_sets(const char* name, const char* help, Evidence needs, const char* extractor,
                         const char* layer, bool clips,
                         MetricValue (*function)(const FeatureSet&, const FeatureSet&,
                                                 const MetricOptions&)) {
  return {name, help, needs, extractor, layer, clips, function, nullptr, nullptr};
}
constexpr Metric of_pairs(const char* name, const char* help,
                          at::Tensor (*function)(const at::Tensor&, const at::Tensor&)) {
  return {name, help, Evidence::kPairs, "", "", false, nullptr, function, nullptr};
}
constexpr Metric of_codes(const char* name, const char* help,
                          MetricValue (*function)(const CodeCounts&)) {
  return {name, help, Evidence::kCodes, "", "", false, nullptr, nullptr, function};
}

constexpr Evidence kMoments = Evidence::kMoments, kFeatures = Evidence::kFeatures;

constexpr Metric kMetrics[] = {
    of_sets("fid", "Frechet distance of last frames by Inception's 2048 features; low is good",
            kMoments, "inception", "2048", false, frechet),
    of_sets("fid768", "the same by the 768 features of Inception's middle; no FID, its own scale",
            kMoments, "inception", "768", false, frechet),
    of_sets("fid192", "the same by Inception's 192 features", kMoments, "inception", "192", false,
            frechet),
    of_sets("fid64", "the same by Inception's 64 features", kMoments, "inception", "64", false,
            frechet),
    of_sets("sfid", "Frechet distance by Inception's spatial features", kMoments, "inception",
            "spatial", false, frechet),
    of_sets("fd_NAME",
            "Frechet distance of last frames by another extractor, such as fd_dinov2_vitb14 or\n"
            "fd_own",
            kMoments, "", "", false, frechet),
    of_sets("fvd", "Frechet distance of clips by I3D's logits; fvd_pad16 repeats the last frame",
            kMoments, "i3d", "", true, frechet),
    of_sets("fvd_NAME", "Frechet distance of clips by another extractor, such as fvd_own", kMoments,
            "", "", true, frechet),
    of_sets("frechet", "Frechet distance of features, whatever they are", kMoments, "", "", false,
            frechet),
    of_sets("kid", "unbiased squared MMD over all samples, kernel (x.y / d + 1)^3; low is good",
            kFeatures, "", "", false, kid),
    of_sets("kid_subsets", "mean of it over 100 keyed subsets of 1000 samples, with deviation",
            kFeatures, "", "", false, kid_subsets),
    of_sets("precision", "part of the made images within 3-neighbour balls of real ones", kFeatures,
            "", "", false, neighbour_metric<&Manifold::precision, 3>),
    of_sets("recall", "part of the real images within 3-neighbour balls of made ones", kFeatures,
            "", "", false, neighbour_metric<&Manifold::recall, 3>),
    of_sets("density", "5-neighbour balls of real images that a made one lies in, over 5",
            kFeatures, "", "", false, neighbour_metric<&Manifold::density, 5>),
    of_sets("coverage", "part of the real images' 5-neighbour balls with a made image in them",
            kFeatures, "", "", false, neighbour_metric<&Manifold::coverage, 5>),
    of_sets("inception_score",
            "exp of the mean KL of class scores to their mean, 10 parts in order",
            Evidence::kScores, "", "logits_unbiased", false, score),
    of_sets("track_wasserstein",
            "Wasserstein distance between the places where something bright is, in pixels",
            kFeatures, "track", "track", true, track_metric<track_distance>),
    of_sets("track_outliers",
            "percentage of made frames that are like none of the real ones in that", kFeatures,
            "track", "track", true, track_metric<track_outliers>),
    of_pairs("psnr", "10 log10(peak^2 / MSE) in dB, the mean over frames; 100 at the most",
             psnr_of_frames),
    of_pairs("ssim", "structural similarity, scikit-image's Gaussian convention (11 px, sigma 1.5)",
             ssim_of_frames),
    of_pairs("crps",
             "continuous ranked probability score of pixels in [0, 1]; the mean absolute\n"
             "error where there is one prediction each",
             crps),
    {"lpips", "how different pairs look to AlexNet, VGG or SqueezeNet; low is good",
     Evidence::kLooks, "", "", false, nullptr, nullptr, nullptr},
    of_codes("code_usage", "part of the codebook that occurs", code_metric<&CodeUse::usage>),
    of_codes("code_perplexity", "exp of the codes' entropy", code_metric<&CodeUse::perplexity>),
    of_codes("bits_per_image", "entropy of an image's codes taken one by one, in bits",
             code_metric<&CodeUse::bits_per_image>),
};

// Whether `name` is this row's, the extractor's own put for NAME.
bool bears(const Metric& row, const std::string& name, const Extractor* extractor) {
  const std::string_view pattern = row.name;
  if (!pattern.ends_with("NAME")) return pattern == name;
  // Those have distances of their own.
  if (extractor == nullptr || extractor->name() == "inception" || extractor->name() == "i3d") {
    return false;
  }
  return name == std::string(pattern.substr(0, pattern.size() - 4)) + extractor->name();
}

// "fvd_pad16" -> "fvd" and 16.
std::string without_padding(const std::string& name, int64_t* pad_to) {
  const size_t at = name.rfind("_pad");
  if (at == std::string::npos || !parse(std::string_view(name).substr(at + 4), pad_to) ||
      *pad_to < 2 || *pad_to > 4096) {
    *pad_to = 0;
    return name;
  }
  return name.substr(0, at);
}

const Metric& row_of(const std::string& name, const Extractor* extractor) {
  std::vector<std::string> names;
  for (const Metric& row : kMetrics) {
    if (bears(row, name, extractor)) return row;
    names.emplace_back(row.name);
  }
  if (extractor != nullptr && name.starts_with("f") && name.find("d_") != std::string::npos) {
    fail(Code::kUsage, "metric ", printable(name), " would be of another extractor: this one is '",
         extractor->name(), "', its distances are fd_", extractor->name(), " and, of clips, fvd_",
         extractor->name());
  }
  fail(Code::kUsage, "there is no metric '", printable(name), "'", did_you_mean(name, names),
       "; see lastframe list metrics");
}

// The layer named by the row, or else the last that is pooled.
std::string layer_of(const Metric& row, const Extractor& extractor) {
  const std::vector<ExtractorLayer> layers = extractor.layers();
  std::vector<std::string> names;
  std::string pooled;
  for (const ExtractorLayer& layer : layers) {
    names.push_back(layer.name);
    if (layer.name == row.layer) return layer.name;
    const bool map = layer.name == "spatial" || layer.name.starts_with("logits");
    if (!map) pooled = layer.name;
  }
  // Of a classifier without its bias where the extractor has that, as torch-fidelity does it.
  const auto has = [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (row.needs == Evidence::kScores && has("logits")) return "logits";
  if (*row.layer == '\0') return pooled.empty() ? layers.back().name : pooled;
  fail(Code::kUsage, "metric ", row.name, " needs the layer ", row.layer, " of ", extractor.name(),
       "; this weight file has ", join(names, ", "), " only");
}

void check_clips(const ChosenMetric& metric, const Extractor& extractor, int64_t frames) {
  const int64_t least = extractor.frames();
  if (metric.row->clips != (least > 1)) {
    fail(Code::kUsage, "metric ", metric.name, " looks at ",
         metric.row->clips ? "whole clips" : "single frames", ", the extractor '", extractor.name(),
         "' at ", least > 1 ? "clips" : "single frames");
  }
  if (metric.pad_to > 0 && metric.pad_to <= frames) {
    fail(Code::kUsage, "metric ", metric.name, ": clips have ", frames,
         " frames, there is nothing to pad; ask for it without _pad", metric.pad_to);
  }
  if (metric.row->clips && std::max(frames, metric.pad_to) < least) {
    fail(Code::kUsage, "metric ", metric.name, ": clips have ", frames, " frames, ",
         extractor.name(), " needs at least ", least, "; evaluate longer clips, or ask for ",
         metric.row->clips && metric.pad_to == 0 ? metric.name : "fvd",
         "_pad16, which repeats the last frame and is another number");
  }
}

void check_extractor(const ChosenMetric& metric, const Extractor& extractor) {
  if (*metric.row->extractor != '\0' && extractor.name() != metric.row->extractor) {
    fail(Code::kUsage, "metric ", metric.name, " is by ", metric.row->extractor,
         ", this extractor is '", extractor.name(), "'; ask for fd_", extractor.name(),
         extractor.frames() > 1 ? str(" of clips: fvd_", extractor.name()) : "");
  }
}

void check_set(const FeatureSet& set) {
  if (set.moments.count() < 2) {
    fail(Code::kUsage, "there ", set.n == 1 ? "is 1 sample" : "are no samples", " of ",
         printable(set.name), "; metrics of sets need at least 2");
  }
  const double scale = set.moments.mean().dot(set.moments.mean()).item<double>();
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  if (set.moments.covariance().trace().item<double>() <= 100 * kEpsilon * kEpsilon * scale) {
    fail(Code::kData, "all ", set.n, " samples of ", printable(set.name),
         " have the same features (zero variance); is it one image again and again?");
  }
}

}  // namespace

std::span<const Metric> metric_table() { return kMetrics; }

const Metric& metric_named(const std::string& name) {
  int64_t pad_to = 0;
  const std::string bare = without_padding(name, &pad_to);
  for (const Metric& row : kMetrics) {
    const std::string_view pattern = row.name;
    if (pattern.ends_with("NAME") && bare.size() > pattern.size() - 4 &&
        bare.starts_with(pattern.substr(0, pattern.size() - 4))) {
      return row;
    }
  }
  return row_of(bare, nullptr);
}

bool uses_seed(const Metric& metric) { return metric.of_sets == kid_subsets; }

bool uses_neighbours(const Metric& metric) {
  constexpr std::array kOfNeighbours = {
      neighbour_metric<&Manifold::precision, 3>, neighbour_metric<&Manifold::recall, 3>,
      neighbour_metric<&Manifold::density, 5>, neighbour_metric<&Manifold::coverage, 5>};
  return std::find(kOfNeighbours.begin(), kOfNeighbours.end(), metric.of_sets) !=
         kOfNeighbours.end();
}

bool compares(const Metric& metric) {
  return metric.of_sets != nullptr && metric.needs != Evidence::kScores;
}

std::vector<ChosenMetric> choose_metrics(const std::vector<std::string>& names,
                                         const Extractor* extractor, int64_t frames) {
  std::vector<ChosenMetric> chosen;
  for (const std::string& name : names) {
    ChosenMetric metric{name, nullptr, "", 0};
    metric.row = &row_of(without_padding(name, &metric.pad_to), extractor);
    if (metric.pad_to > 0 && !metric.row->clips) {
      fail(Code::kUsage, "metric ", name, ": only metrics of whole clips can pad them");
    }
    const bool by_features = metric.row->of_sets != nullptr;
    if (by_features && extractor != nullptr) {
      check_extractor(metric, *extractor);
      check_clips(metric, *extractor, frames);
      metric.layer = layer_of(*metric.row, *extractor);
    }
    for (const ChosenMetric& other : chosen) {
      if (other.name == name) fail(Code::kUsage, "metric ", name, " is asked for twice");
      if (other.row->clips && metric.row->clips && other.pad_to != metric.pad_to) {
        fail(Code::kUsage, "metrics ", other.name, " and ", name,
             " pad clips differently; evaluate them one after the other");
      }
    }
    chosen.push_back(metric);
  }
  if (chosen.empty()) fail(Code::kUsage, "no metric is asked for; see lastframe list metrics");
  return chosen;
}

MetricValue compute_of_sets(const ChosenMetric& metric, const FeatureSet& real,
                            const FeatureSet& fake, const MetricOptions& options) {
  check_set(fake);
  if (metric.row->needs != Evidence::kScores) check_set(real);
  const bool statistics_only = !fake.features_ND.defined() || !real.features_ND.defined();
  if (metric.row->needs == Evidence::kFeatures && statistics_only) {
    fail(Code::kUsage, "metric ", metric.name, " needs the features of every sample, of ",
         printable(real.features_ND.defined() ? fake.name : real.name),
         " only mean and covariance are known; give images or features instead");
  }
  return metric.row->of_sets(real, fake, options);
}

bool is_of_pairs(const ChosenMetric& metric) {
  return metric.row->needs == Evidence::kPairs || metric.row->needs == Evidence::kLooks;
}

at::Tensor compute_of_pairs(const ChosenMetric& metric, const at::Tensor& real_NTHWC,
                            const at::Tensor& fake_NTHWC, const PairDistance* looks) {
  if (metric.row->of_pairs != nullptr) return metric.row->of_pairs(real_NTHWC, fake_NTHWC);
  if (looks == nullptr) {
    fail(Code::kUsage, "metric ", metric.name,
         " needs the weights of a network; give them with --lpips FILE (or evaluation.lpips)");
  }
  const auto images = [](const at::Tensor& x_NTHWC) {
    return (x_NTHWC * 255).round().to(at::kByte).flatten(0, 1);
  };
  return looks->distance(images(real_NTHWC), images(fake_NTHWC))
      .to(at::kCPU, at::kDouble)
      .reshape({real_NTHWC.size(0), real_NTHWC.size(1)});
}

MetricValue summarise_frames(const at::Tensor& values_NT) {
  MetricValue out;
  out.n = values_NT.size(0);
  const at::Tensor frames_T = values_NT.mean(0);
  for (int64_t t = 0; t < frames_T.size(0); ++t) {
    out.per_frame.push_back(frames_T[t].item<double>());
  }
  out.value = values_NT.mean().item<double>();
  out.more.emplace_back("last_frame", out.per_frame.back());
  return out;
}

}  // namespace lf
