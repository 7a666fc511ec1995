// Which features of an extractor some metrics look at, and those of the images that a reference is
// made of, kept on disk where they will be wanted again. What a model makes is evaluate.h's. Called
// by evaluate.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/world.h"
#include "eval/extraction.h"
#include "eval/images.h"
#include "eval/metrics.h"

namespace lf {

// What features are looked at, by which extractor, for which metrics.
struct Features {
  Extractor* extractor = nullptr;
  std::string preprocessing;
  std::vector<std::string> layers;  // each once
  int64_t pad_to = 0;
  bool every_sample = false;  // of the made ones and of the real ones; else moments do

  Features(const std::vector<ChosenMetric>& chosen, Extractor* from, std::string id);
  std::string text() const;  // for the keys of caches
};

// Code::kUsage unless the frames are of one size; of clips as long, too, if whole clips are looked
// at.
void require_same_size(const Extractor& extractor, ClipShape real, const std::string& real_name,
                       ClipShape fake, const std::string& fake_name);

// Collective. The first `count` of the images, a set for each layer. `cache` is the folder where
// their features are kept; "": nowhere.
std::vector<FeatureSet> features_of(World& world, const Features& features, const ImageSet& images,
                                    int64_t count, const std::string& cache,
                                    const std::function<bool()>& break_off = nullptr);

// Collective. The same; with a cache, and if moments are enough, their statistics are kept, and
// taken from there the next time.
std::vector<FeatureSet> reference_of(World& world, const Features& features, const ImageSet& images,
                                     int64_t count, const std::string& cache,
                                     const std::function<bool()>& break_off);

// A .npz file in place of images. On every rank, though only rank 0 computes with it.
std::vector<FeatureSet> statistics_as_reference(const Features& features, const std::string& path);

}  // namespace lf
