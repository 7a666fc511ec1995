#include "eval/comparison.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "base/stop.h"
#include "eval/images.h"

namespace lf {
namespace {

constexpr int64_t kElementsAtOnce = int64_t{1} << 22;  // of the pixels of pairs

}  // namespace

Comparison::Comparison(const std::vector<ChosenMetric>& chosen, const EvaluationConfig& config,
                       const EvaluationSubject& subject, const PairDistance* looks)
    : chosen_(chosen), config_(config), subject_(subject), looks_(looks) {}

void Comparison::add(int64_t chunk, const Chunks& chunks, const at::Tensor& made_NTHWC) {
  added_[chunk] = compare(chunks.begin(chunk), made_NTHWC);
}

std::vector<Result> Comparison::results(World& world, SubjectClips& reconstructions) {
  const Chunks& chunks = reconstructions.chunks();
  std::vector<std::vector<at::Tensor>> values(chosen_.size());
  for_own_chunks(world, chunks, reconstructions.name(), subject_.break_off, [&](int64_t chunk) {
    const bool added = added_.contains(chunk);
    if (!added) add(chunk, chunks, reconstructions.chunk(chunk));
    const std::vector<at::Tensor>& of_chunk = added_.at(chunk);
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (of_chunk[i].defined()) values[i].push_back(of_chunk[i]);
    }
    return !added;
  });
  std::vector<Result> results;
  for (size_t i = 0; i < chosen_.size(); ++i) {
    if (!is_of_pairs(chosen_[i])) continue;
    const at::Tensor values_NT = gather_rows(world, values[i]);
    if (world.is_root()) results.push_back(result_of(chosen_[i], values_NT));
  }
  return results;
}

Result Comparison::result_of(const ChosenMetric& metric, const at::Tensor& values_NT) const {
  Result result;
  result.metric = metric.name;
  result.value = summarise_frames(values_NT);
  result.reference = result.reference_hash = subject_.stores.validation->index().store_id();
  result.reference_n = values_NT.size(0);
  const size_t given = subject_.model->frames_to_give().size();
  if (given > 0) result.value.more.emplace_back("given_frames", static_cast<double>(given));
  if (metric.row->needs == Evidence::kLooks) {
    result.extractor = looks_->name();
    result.extractor_hash = looks_->hash();
  }
  add_origin(result, config_, subject_, /*sampled=*/false);
  return result;
}

// From 0 to 1, without the frames that the model was given and only gives back.
at::Tensor Comparison::judged(const at::Tensor& bytes_NTHWC) const {
  const std::vector<int64_t> given = subject_.model->frames_to_give();
  std::vector<int64_t> made;
  for (int64_t frame = 0; frame < bytes_NTHWC.size(1); ++frame) {
    if (std::find(given.begin(), given.end(), frame) == given.end()) made.push_back(frame);
  }
  return bytes_NTHWC.index_select(1, at::tensor(made, at::kLong)).to(at::kDouble) / 255;
}

// Reconstructions `first` and on with their originals: [n, T] for each metric of pairs.
std::vector<at::Tensor> Comparison::compare(int64_t first, const at::Tensor& made_NTHWC) const {
  const at::Tensor real_NTHWC =
      images_of_store(subject_.stores.validation)->read(first, made_NTHWC.size(0));
  const int64_t clip_elements = real_NTHWC.numel() / real_NTHWC.size(0);
  const int64_t at_once = std::max<int64_t>(1, kElementsAtOnce / clip_elements);
  std::vector<std::vector<at::Tensor>> parts(chosen_.size());
  for (int64_t from = 0; from < real_NTHWC.size(0); from += at_once) {
    interruption_point();
    const at::Tensor real = judged(real_NTHWC.slice(0, from, from + at_once));
    const at::Tensor made = judged(made_NTHWC.slice(0, from, from + at_once));
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (is_of_pairs(chosen_[i])) {
        parts[i].push_back(compute_of_pairs(chosen_[i], real, made, looks_));
      }
    }
  }
  std::vector<at::Tensor> values(chosen_.size());
  for (size_t i = 0; i < chosen_.size(); ++i) {
    if (!parts[i].empty()) values[i] = at::cat(parts[i]).contiguous();
  }
  return values;
}

}  // namespace lf
