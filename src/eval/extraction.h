// From images or clips to sets of features, over all ranks: each rank makes and looks at its
// chunks, the moments meet on rank 0 in an order that does not depend on the ranks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/world.h"
#include "eval/metrics.h"
#include "model/extractors/extractor.h"
#include "run/chunks.h"

namespace lf {

// Samples `first` to `first + count - 1`: uint8 [count, T, H, W, C].
using ReadClips = std::function<at::Tensor(int64_t first, int64_t count)>;

struct Extraction {
  std::string title;  // of the lines of progress
  std::string name;   // of the sets
  Chunks chunks;
  ReadClips read;
  ClipShape shape;  // of the clips
  std::vector<std::string> layers;
  int64_t pad_to = 0;          // frames of a clip, its last repeated; 0: as they are
  bool keep_features = false;  // of every sample, beside the moments
  ChunkCache cache;            // of the features
  std::string beside = {};     // what else takes time, for the log: " besides making them"
  std::function<bool()> break_off = nullptr;
};

// Collective. A set for each layer, filled on rank 0. An extractor of images sees the last frames.
// Logs first how long it will take, by a short measurement, unless there is little to do.
// Code::kInterrupted on every rank if one was asked to stop; finished chunks are in the cache.
std::vector<FeatureSet> extract_features(World& world, Extractor& extractor,
                                         const Extraction& what);

}  // namespace lf
