#include "model/extractors/extractor.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/parallel.h"
#include "base/stop.h"

namespace lf {
namespace {

constexpr std::array kPreprocessings = {Preprocessing::kTorch, Preprocessing::kTf1,
                                        Preprocessing::kClean};

}  // namespace

const char* name_of(Preprocessing id) {
  switch (id) {
    case Preprocessing::kTorch:
      return "torch";
    case Preprocessing::kTf1:
      return "tf1";
    case Preprocessing::kClean:
      return "clean";
  }
  return "?";
}

Preprocessing parse_preprocessing(const std::string& name) {
  std::vector<std::string> known;
  for (const Preprocessing id : kPreprocessings) {
    if (name == name_of(id)) return id;
    known.emplace_back(name_of(id));
  }
  fail(Code::kUsage, "there is no preprocessing '", printable(name), "'", did_you_mean(name, known),
       "; choose one of ", join(known, ", "));
}

std::string shape_text(at::IntArrayRef shape) {
  std::vector<std::string> extents;
  for (const int64_t extent : shape) extents.push_back(std::to_string(extent));
  return str("[", join(extents, ", "), "]");
}

void CheckedExtractor::check(const at::Tensor& clips,
                             const std::vector<std::string>& wanted) const {
  std::vector<std::string> known;
  for (const ExtractorLayer& layer : layers()) known.push_back(layer.name);
  if (wanted.empty()) {
    fail(Code::kUsage, "no layer of ", name(), " is requested; name one of ", join(known, ", "));
  }
  for (const std::string& layer : wanted) {
    if (std::find(known.begin(), known.end(), layer) != known.end()) continue;
    fail(Code::kUsage, name(), " with these weights has no layer '", printable(layer), "'",
         did_you_mean(layer, known), "; it has ", join(known, ", "));
  }
  LF_CHECK(clips.dim() == 5 && clips.scalar_type() == at::kByte, "clips are bytes [N,T,H,W,C]");
  if (clips.size(4) != 1 && clips.size(4) != 3) {
    fail(Code::kUsage, "the clips have ", clips.size(4), " channels, ", name(),
         " takes 1 or 3; convert them to grey or RGB");
  }
  if (frames() == 1 && clips.size(1) != 1) {
    fail(Code::kUsage, "the clips have ", clips.size(1), " frames, ", name(),
         " takes images; give single frames");
  }
  if (clips.size(1) < frames()) {
    fail(Code::kUsage, "the clips have ", clips.size(1), " frames, ", name(), " takes at least ",
         frames(), "; give longer clips");
  }
}

at::Tensor CheckedExtractor::no_rows(const std::string& layer) const {
  for (const ExtractorLayer& known : layers()) {
    if (known.name == layer) return at::zeros({0, known.dim}, at::kFloat);
  }
  LF_CHECK(false, "layer ", layer);
  return {};
}

std::vector<at::Tensor> CheckedExtractor::features(const at::Tensor& clips,
                                                   const std::vector<std::string>& layers) {
  check(clips, layers);
  const at::NoGradGuard no_grad;
  const int64_t at_once = std::max<int64_t>(1, frames_at_once_ / clips.size(1));
  const auto parts = static_cast<size_t>((clips.size(0) + at_once - 1) / at_once);
  std::vector<std::vector<at::Tensor>> by_layer(layers.size(), std::vector<at::Tensor>(parts));
  const RestoredThreads threads;
  run_parallel(parts, on_cpu_ ? threads.count() : 1, [&](uint64_t number) {
    const at::NoGradGuard none_here;
    if (on_cpu_ && at::get_num_threads() != 1) at::set_num_threads(1);
    interruption_point();
    const int64_t from = static_cast<int64_t>(number) * at_once;
    const std::vector<at::Tensor> made = part(clips.slice(0, from, from + at_once), layers);
    LF_CHECK(made.size() == layers.size(), "layers of ", name());
    for (size_t i = 0; i < made.size(); ++i) by_layer[i][number] = made[i].to(at::kFloat);
  });
  std::vector<at::Tensor> joined;
  for (size_t i = 0; i < layers.size(); ++i) {
    joined.push_back(by_layer[i].empty() ? no_rows(layers[i]) : at::cat(by_layer[i]));
    if (at::isfinite(joined.back()).all().item<bool>()) continue;
    fail(Code::kNotFinite, "layer ", layers[i], " of ", name(),
         " is not finite on these images; use other weights, or full precision");
  }
  return joined;
}

}  // namespace lf
