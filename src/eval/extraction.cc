#include "eval/extraction.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace lf {
namespace {

// What the extractor is to see of clips [N, T, H, W, C].
at::Tensor view_of(const at::Tensor& clips, const Extractor& extractor, int64_t pad_to) {
  if (extractor.frames() == 1) return clips.slice(1, -1).contiguous();
  const int64_t missing = pad_to - clips.size(1);
  if (missing <= 0) return clips;
  return at::cat({clips, clips.slice(1, -1).repeat({1, missing, 1, 1, 1})}, 1);
}

// Collective. By the time that some black clips take on rank 0.
void announce_cost(World& world, Extractor& extractor, const Extraction& what) {
  constexpr int64_t kTriedByThread = 16, kWorthATrial = 8;
  int64_t missing = 0;
  const int64_t last = what.chunks.first(world.rank() + 1, world.size());
  for (int64_t chunk = what.chunks.first(world.rank(), world.size()); chunk < last; ++chunk) {
    if (!what.cache.has(chunk)) missing += what.chunks.length(chunk);
  }
  missing = world.sum(missing);
  const int64_t tried = kTriedByThread * at::get_num_threads();
  if (!world.is_root() || missing < kWorthATrial * tried) return;
  const ClipShape& shape = what.shape;
  const at::Tensor clips =
      at::zeros({tried, shape.frames, shape.height, shape.width, shape.channels}, at::kByte);
  const auto seconds_of = [&](int64_t count) {
    const Clock::time_point begin = Clock::now();
    extractor.features(view_of(clips.slice(0, 0, count), extractor, what.pad_to), what.layers);
    return seconds_since(begin);
  };
  seconds_of(1);  // libraries choose their kernels in the first call
  const double each = seconds_of(tried) / static_cast<double>(tried);
  const int64_t kept = what.chunks.count - missing;
  LF_INFO(what.title, ": ", human_count(static_cast<uint64_t>(missing)),
          kept > 0 ? str(" to compute, ", human_count(static_cast<uint64_t>(kept)), " kept") : "",
          ", about ", human_seconds(each * static_cast<double>(missing) / world.size()),
          what.beside, " (", extractor.name(), " on ", world.size(),
          world.size() == 1 ? " rank" : " ranks", " of ", at::get_num_threads(),
          " threads, measured on ", tried, ")");
}

}  // namespace

std::vector<FeatureSet> extract_features(World& world, Extractor& extractor,
                                         const Extraction& what) {
  announce_cost(world, extractor, what);
  const size_t layers = what.layers.size();
  std::vector<MomentsTree> trees(layers);
  std::vector<std::vector<at::Tensor>> kept(layers);
  for_own_chunks(world, what.chunks, what.title, what.break_off, [&](int64_t chunk) {
    const int64_t length = what.chunks.length(chunk);
    bool extracted = false;
    const TensorsByName features = what.cache.get(chunk, length, [&] {
      extracted = true;
      const at::Tensor clips = what.read(what.chunks.begin(chunk), length);
      const std::vector<at::Tensor> made =
          extractor.features(view_of(clips, extractor, what.pad_to), what.layers);
      TensorsByName named;
      for (size_t i = 0; i < layers; ++i) named[what.layers[i]] = made[i].to(at::kCPU).contiguous();
      return named;
    });
    for (size_t i = 0; i < layers; ++i) {
      const at::Tensor& rows = features.at(what.layers[i]);
      Moments moments;
      moments.add(rows);
      trees[i].add(chunk, std::move(moments));
      if (what.keep_features) kept[i].push_back(rows);
    }
    return extracted;
  });
  std::vector<FeatureSet> sets(layers);
  for (size_t i = 0; i < layers; ++i) {
    sets[i].name = what.name;
    sets[i].n = what.chunks.count;
    sets[i].moments = trees[i].gather(world);
    if (what.keep_features) sets[i].features_ND = gather_rows(world, kept[i]);
  }
  return sets;
}

}  // namespace lf
