#include "eval/extraction.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "base/stop.h"
#include "comm/watchdog.h"

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

void for_own_chunks(World& world, const Chunks& chunks, const std::string& title,
                    const std::function<bool()>& break_off,
                    const std::function<void(int64_t chunk)>& work) {
  const int64_t first = chunks.first(world.rank(), world.size());
  const int64_t last = chunks.first(world.rank() + 1, world.size());
  const auto own = [&](int64_t chunk) {
    return static_cast<uint64_t>(std::min(chunks.count, chunks.begin(chunk)) - chunks.begin(first));
  };
  // Rank 0 shows its own part; the others' are as large.
  Progress progress(title, world.size() > 1 ? "of rank 0's samples" : "samples", own(last));
  int64_t chunk = first;
  const auto stop = [&] {
    return stop_requested() != StopReason::kNone || (break_off && break_off());
  };
  for (; chunk < last && !stop(); ++chunk) {
    work(chunk);
    note_progress();
    if (world.is_root()) progress.show(own(chunk + 1));
  }
  if (world.is_root() && last > first) progress.finish(own(chunk));
  if (world.max(static_cast<int64_t>(chunk < last)) != 0) {
    fail(Code::kInterrupted,
         "the evaluation was asked to stop; the same command goes on from what ", "it has made");
  }
}

at::Tensor gather_rows(World& world, const std::vector<at::Tensor>& own) {
  std::string bytes;
  for (const at::Tensor& rows : own) {
    bytes.append(static_cast<const char*>(rows.const_data_ptr()), rows.nbytes());
  }
  const std::vector<std::string> all = world.gather(bytes);
  if (!world.is_root()) return {};
  // Rank 0 has the first chunk, so it knows the shape of a row.
  LF_CHECK(!own.empty(), "rank 0 has no rows");
  const size_t row_bytes = own[0].nbytes() / static_cast<size_t>(own[0].size(0));
  size_t total = 0;
  for (const std::string& part : all) total += part.size();
  std::vector<int64_t> shape = own[0].sizes().vec();
  shape[0] = static_cast<int64_t>(total / row_bytes);
  at::Tensor out = at::empty(shape, own[0].options());
  auto* into = static_cast<char*>(out.mutable_data_ptr());
  for (const std::string& part : all) {
    into = std::copy(part.begin(), part.end(), into);
  }
  return out;
}

std::vector<FeatureSet> extract_features(World& world, Extractor& extractor,
                                         const Extraction& what) {
  const size_t layers = what.layers.size();
  std::vector<MomentsTree> trees(layers);
  std::vector<std::vector<at::Tensor>> kept(layers);
  for_own_chunks(world, what.chunks, what.title, what.break_off, [&](int64_t chunk) {
    const int64_t length = what.chunks.length(chunk);
    const TensorsByName features = what.cache.get(chunk, length, [&] {
      const at::Tensor clips = what.make(what.chunks.begin(chunk), length);
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
