// A recipe turns an image into a pseudo video whose last frame is the image. It has operators (the
// corruption table), a topology (the parents of each frame, cleaner frames it is made from) and a
// schedule (the strength of each step). Its arithmetic is specified to the bit, so a clip is the
// same on every machine. Knows nothing of files or shards.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clip_shape.h"
#include "run.pb.h"

namespace lf {

// The key of a clip's random numbers; frame and purpose are added below it.
struct ClipKey {
  uint64_t seed = 0;
  uint64_t clip = 0;
  uint32_t draw = 0;
};

// How the corrupted frames are stored: grey levels, or x = grey / 127.5 - 1, not clipped.
enum class Element { kUint8, kFp16 };

// A frame that is a weighted sum of its parents, a blur and noise, as a formula that can be
// evaluated on another device. In grey levels, with the arithmetic of frame_kernels.h.
struct FrameFormula {
  std::vector<int> parents;    // counted from the image, which is 0
  std::vector<float> weights;  // of the parents; empty: the only parent unchanged
  float offset = 0;            // added to the sum
  std::vector<float> blur;     // kernel from its centre, for columns, then rows; empty: no blur
  float noise = 0;             // standard deviation of the noise added; 0: none
};

// A recipe prepared for one frame shape; immutable and thread-safe.
class Recipe {
 public:
  // Throws Code::kUsage if the config does not fit the shape. A video source takes no operator: its
  // frames are the clip.
  Recipe(const RecipeConfig& config, const ClipShape& image);
  ~Recipe();
  Recipe(Recipe&&) noexcept;
  Recipe& operator=(Recipe&&) noexcept;

  int frames() const;              // T, the clean last frame included
  Element element() const;         // of frames 0..T-2; the last frame is always uint8
  size_t corrupted_bytes() const;  // of frames 0..T-2, as stored
  size_t clean_bytes() const;      // of frame T-1

  // Makes frames 0..T-2 ([T-1, H, W, C], most corrupted first) of the image; the last frame is the
  // image itself, bit for bit, and is not written. For a video source `image` is [T, H, W, C] and
  // the first T-1 frames are copied.
  void apply(const uint8_t* image, const ClipKey& key, void* corrupted) const;

  // The same frames before they are rounded for storage: grey levels, not clipped, from an image in
  // grey levels. The reference for tests and for fused kernels; not for video sources.
  void apply_exact(const float* image, const ClipKey& key, float* corrupted) const;

  // The formulas of y_1 .. y_{T-1}; empty if one of these frames has none.
  std::vector<FrameFormula> formulas() const;
  // The key of the random numbers of frame y_s, as random_lanes.h takes it.
  static std::array<uint32_t, 2> noise_key(uint64_t seed, int s);

  bool random() const;            // do draws differ?
  std::string canonical() const;  // the recipe as text, part of a store's identity

 private:
  struct Plan;
  std::unique_ptr<const Plan> plan_;
};

}  // namespace lf
