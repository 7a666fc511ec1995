// In which order the frames of a long video are made when the network sees only a few at a time:
// flexible diffusion's schemes. A stage is one call of the sampler: which frames it is shown and
// which it makes. Numbers only, no tensors. What a network sees of one window is frame_plan's.
// Called by the diffusion models and by `lastframe sample --dry-run`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lf {

// Both ascending, without a frame in common.
struct SchemeStage {
  std::vector<int64_t> observed, latent;
  friend bool operator==(const SchemeStage&, const SchemeStage&) = default;
};

enum class SchemeKind {
  kAutoregressive,  // the next frames from the newest ones
  kLongRange,       // half of what is shown are the newest frames, half the first ones
  kHierarchy,       // few frames all over the video, then what lies between, level by level
};

struct SchemeOptions {
  SchemeKind kind = SchemeKind::kAutoregressive;
  int64_t window = 8;  // the most frames in a call
  int64_t step = 4;    // the most new frames in a call, where some are shown
  int64_t levels = 2;  // kHierarchy: levels of it
};

// How far apart two finished frames look, for adaptive schemes.
using FrameDistance = std::function<double(int64_t, int64_t)>;

// Makes the stages one after the other: those of adaptive schemes depend on what was made.
class FrameScheme {
 public:
  // The video's frames; `given`, ascending, are there from the start. Code::kUsage if the numbers
  // cannot go together.
  FrameScheme(const SchemeOptions& options, int64_t frames, const std::vector<int64_t>& given);

  bool finished() const;
  // The next stage; its latent frames count as made. With a distance what is shown is chosen anew:
  // as many frames, each the one that differs most from those chosen before it, beginning with the
  // newest and, in a hierarchy, with the neighbours on both sides.
  SchemeStage next(const FrameDistance& distance = {});

 private:
  SchemeStage opening() const;
  SchemeStage stage_after_newest() const;
  SchemeStage stage_of_hierarchy();
  std::vector<int64_t> latents_of_level(int64_t step) const;
  std::vector<int64_t> shown_around(const std::vector<int64_t>& latent, int64_t places) const;
  std::vector<int64_t> most_different(const SchemeStage& stage,
                                      const FrameDistance& distance) const;
  int64_t stride() const;
  std::vector<int64_t> made() const;

  SchemeOptions options_;
  int64_t frames_, given_;
  std::vector<bool> there_;
  std::vector<int64_t> references_;  // kLongRange: what is shown besides the newest
  int64_t level_ = 1, reached_ = 0;  // kHierarchy: the last frame looked at in this level
};

// All stages of a scheme that does not adapt.
std::vector<SchemeStage> scheme_stages(const SchemeOptions& options, int64_t frames,
                                       const std::vector<int64_t>& given);

// "0-3 -> 4, 9, 14, 19", as --dry-run prints a stage.
std::string describe(const SchemeStage& stage);

}  // namespace lf
