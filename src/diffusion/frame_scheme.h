// Flexible diffusion's sampling schemes: the order in which the frames of a long video are made
// when the network sees only a few at a time. A stage is one call of the sampler, with the frames
// it observes and those it makes. Indices only, no tensors. Windows and roles are frame_plan's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lf {

// Both sorted, with no frame in common.
struct SchemeStage {
  std::vector<int64_t> observed, latent;
  friend bool operator==(const SchemeStage&, const SchemeStage&) = default;
};

enum class SchemeKind {
  kAutoregressive,  // the next frames from the newest ones
  kLongRange,       // observes half newest frames, half first ones
  kHierarchy,       // a few frames spread over the video, then those between, level by level
};

struct SchemeOptions {
  SchemeKind kind = SchemeKind::kAutoregressive;
  int64_t window = 8;  // the most frames in a call
  int64_t step = 4;    // the most new frames in a call that observes some
  int64_t levels = 2;  // of kHierarchy
};

// The perceptual distance of two finished frames, for adaptive schemes.
using FrameDistance = std::function<double(int64_t, int64_t)>;

// Plans one stage at a time, as those of adaptive schemes depend on the frames made so far.
class FrameScheme {
 public:
  // For a video of `frames` frames, of which `given` (sorted) exist from the start. Throws
  // Code::kUsage if options and frames do not fit together.
  FrameScheme(const SchemeOptions& options, int64_t frames, const std::vector<int64_t>& given);

  bool finished() const;
  // Returns the next stage and counts its latent frames as made. With a distance, it replaces the
  // observed frames by as many that are chosen farthest point first, starting with the newest frame
  // (in a hierarchy with the neighbours on both sides).
  SchemeStage next(const FrameDistance& distance = {});

 private:
  SchemeStage opening() const;
  SchemeStage stage_after_newest() const;
  SchemeStage stage_of_hierarchy();
  std::vector<int64_t> latents_of_level(int64_t step) const;
  std::vector<int64_t> observed_around(const std::vector<int64_t>& latent, int64_t places) const;
  std::vector<int64_t> most_different(const SchemeStage& stage,
                                      const FrameDistance& distance) const;
  int64_t stride() const;
  std::vector<int64_t> made_frames() const;

  SchemeOptions options_;
  int64_t frames_, given_;
  std::vector<bool> made_;           // for each frame
  std::vector<int64_t> references_;  // kLongRange: observed besides the newest
  int64_t level_ = 1, reached_ = 0;  // kHierarchy: the last frame visited in this level
};

// All stages of a scheme that does not adapt.
std::vector<SchemeStage> scheme_stages(const SchemeOptions& options, int64_t frames,
                                       const std::vector<int64_t>& given);

// For instance "0-3 -> 4, 9, 14, 19": observed -> latent.
std::string describe(const SchemeStage& stage);

}  // namespace lf
