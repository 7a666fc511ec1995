#include "eval/extraction.h"

#include <ATen/ops/cat.h>

namespace lf {
namespace {

// What the extractor is to see of clips [N, T, H, W, C].
at::Tensor view_of(const at::Tensor& clips, const Extractor& extractor, int64_t pad_to) {
  if (extractor.frames() == 1) return clips.slice(1, -1).contiguous();
  const int64_t missing = pad_to - clips.size(1);
  if (missing <= 0) return clips;
  return at::cat({clips, clips.slice(1, -1).repeat({1, missing, 1, 1, 1})}, 1);
}

}  // namespace

std::vector<FeatureSet> extract_features(World& world, Extractor& extractor,
                                         const Extraction& what) {
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
