#include "eval/extraction.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <mutex>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
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

// Some chunks that are extracted at the same time, one or a few threads each; features have the
// same bits on any number of them. Clips are read, or made by a model, one chunk after the other.
class ChunkGroup {
 public:
  ChunkGroup(Extractor& extractor, const Extraction& what)
      : extractor_(extractor),
        what_(what),
        most_(extractor.is_thread_safe()
                  ? std::clamp<int64_t>(kMostBytes / bytes_of_chunk(what), 1, at::get_num_threads())
                  : 1) {}

  bool is_full() const { return static_cast<int64_t>(chunks_.size()) >= most_; }
  // Returns whether its features are still to be computed.
  bool add(int64_t chunk) {
    const bool kept = what_.cache.has(chunk);
    chunks_.push_back({chunk, kept ? at::Tensor() : read(chunk)});
    return !kept;
  }
  // Hands the features of each to `take`, in the order in which they were added.
  void extract(const std::function<void(int64_t, const TensorsByName&)>& take) {
    std::vector<TensorsByName> made(chunks_.size());
    compute(made);
    for (size_t i = 0; i < chunks_.size(); ++i) take(chunks_[i].number, made[i]);
    chunks_.clear();
  }

 private:
  static constexpr int64_t kMostBytes = int64_t{1} << 30;  // of the clips of a group
  struct Chunk {
    int64_t number;
    at::Tensor clips;  // undefined: the features are kept, if they can be read
  };
  void compute(std::vector<TensorsByName>& made) {
    const RestoredThreads threads;
    const int each = std::max(1, threads.count() / static_cast<int>(chunks_.size()));
    run_parallel(chunks_.size(), static_cast<int>(chunks_.size()), [&](uint64_t i) {
      const at::NoGradGuard no_grad;
      if (chunks_.size() > 1) at::set_num_threads(each);
      const Chunk& chunk = chunks_[i];
      made[i] = what_.cache.get(chunk.number, what_.chunks.length(chunk.number),
                                [&] { return features_of(chunk); });
    });
  }
  static int64_t bytes_of_chunk(const Extraction& what) {
    return std::max<int64_t>(1, what.chunks.size * static_cast<int64_t>(what.shape.bytes()));
  }
  at::Tensor read(int64_t chunk) {
    const std::lock_guard<std::mutex> lock(reading_);
    return what_.read(what_.chunks.begin(chunk), what_.chunks.length(chunk));
  }
  TensorsByName features_of(const Chunk& chunk) {
    const at::Tensor clips = chunk.clips.defined() ? chunk.clips : read(chunk.number);
    const std::vector<at::Tensor> made =
        extractor_.features(view_of(clips, extractor_, what_.pad_to), what_.layers);
    TensorsByName named;
    for (size_t i = 0; i < made.size(); ++i) {
      named[what_.layers[i]] = made[i].to(at::kCPU).contiguous();
    }
    return named;
  }

  Extractor& extractor_;
  const Extraction& what_;
  const int64_t most_;
  std::vector<Chunk> chunks_;
  std::mutex reading_;
};

// Collective. By the time that some black clips take on rank 0.
void announce_cost(World& world, Extractor& extractor, const Extraction& what) {
  constexpr int64_t kTriedByThread = 16, kWorthATrial = 8;
  const int64_t missing = chunks_missing(world, what.chunks, what.cache);
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
  LF_INFO(what.title, ": ", cost_text(world, what.chunks, missing, each), what.beside, " (",
          extractor.name(), " on ", workers_text(world), ", measured on ", tried, ")");
}

}  // namespace

std::vector<FeatureSet> extract_features(World& world, Extractor& extractor,
                                         const Extraction& what) {
  announce_cost(world, extractor, what);
  const size_t layers = what.layers.size();
  std::vector<MomentsTree> trees(layers);
  std::vector<std::vector<at::Tensor>> kept(layers);
  const auto take = [&](int64_t chunk, const TensorsByName& features) {
    for (size_t i = 0; i < layers; ++i) {
      const at::Tensor& rows = features.at(what.layers[i]);
      Moments moments;
      moments.add(rows);
      trees[i].add(chunk, std::move(moments));
      if (what.keep_features) kept[i].push_back(rows);
    }
  };
  ChunkGroup group(extractor, what);
  const int64_t last = what.chunks.first(world.rank() + 1, world.size());
  for_own_chunks(world, what.chunks, what.title, what.break_off, [&](int64_t chunk) {
    const bool missing = group.add(chunk);
    if (group.is_full() || chunk + 1 == last) group.extract(take);
    return missing;
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
