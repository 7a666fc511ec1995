// Which features of an extractor some metrics look at, those of the images that a reference is made
// of, kept on disk where they will be wanted again, and the comparison of two sets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/world.h"
#include "eval/extraction.h"
#include "eval/images.h"
#include "eval/metrics.h"
#include "eval/report.h"
#include "kernels/dispatch.h"
#include "run.pb.h"

namespace lf {

std::vector<std::string> metric_names(const EvaluationConfig& config);

// "pixels" or "track" for clips of this shape, or a file of weights.
std::unique_ptr<Extractor> extractor_for(const EvaluationConfig& config, at::Device device,
                                         const ClipShape& shape, const KernelChoice& kernels);

// What features are looked at, by which extractor, for which metrics.
struct Features {
  Extractor* extractor = nullptr;
  std::string preprocessing;
  std::vector<std::string> layers;  // each once
  int64_t pad_to = 0;
  bool every_sample = false;  // of the made ones and of the real ones; else moments do
  std::string arithmetic;     // arithmetic_key(), for the keys of caches

  Features(const std::vector<ChosenMetric>& chosen, Extractor* from, std::string id,
           std::string arithmetic);
  std::string key() const;  // under which such features are kept
};

// Code::kUsage unless the frames are of one size; of clips as long, too, if whole clips are looked
// at.
void require_same_size(const Extractor& extractor, ClipShape real, const std::string& real_name,
                       ClipShape fake, const std::string& fake_name);

// On rank 0, before anything is computed: warns of each Frechet distance that so many real and made
// samples make mostly bias.
void warn_of_bias(const std::vector<ChosenMetric>& chosen, const Features& features, int64_t real,
                  int64_t made);

// Collective. A set for each layer. `cache` is the folder where their features are kept; "":
// nowhere.
std::vector<FeatureSet> features_of(World& world, const Features& features, const ImageSet& images,
                                    const std::string& cache,
                                    const std::function<bool()>& break_off = nullptr);

// Collective. The same, kept beside the images' store for all runs or, where that cannot be, in
// `otherwise` ("": nowhere). If moments are enough, their statistics are kept too, and taken from
// there the next time.
std::vector<FeatureSet> reference_of(World& world, const Features& features, const ImageSet& images,
                                     const std::string& otherwise,
                                     const std::function<bool()>& break_off = nullptr);

// Code::kUsage if some of a reference's images are asked for that only has statistics.
void refuse_reference_count(int64_t count, const std::string& path);

// A .npz file in place of images. On every rank, though only rank 0 computes with it.
std::vector<FeatureSet> statistics_as_reference(const Features& features, const std::string& path);

// On rank 0.
Result result_of_sets(const ChosenMetric& metric, const Features& features,
                      const std::vector<FeatureSet>& real, const std::vector<FeatureSet>& fake,
                      const MetricOptions& options);

}  // namespace lf
