// A recipe turns an image into a pseudo video whose last frame is the image: operators (the
// corruption table), a topology (which cleaner frames each frame is made from) and a schedule (how
// strong each step is). Its arithmetic is specified to the bit, so a clip is the same wherever and
// whenever it is made. Knows nothing of files or shards. Called by data/store/build,
// data/store/store and, for what a GPU is to do, run/device_frames.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/sources/source.h"
#include "run.pb.h"

namespace lf {

// Which random numbers a clip gets: (store seed, clip id, draw) and, below, frame and purpose.
struct ClipKey {
  uint64_t seed = 0;
  uint64_t clip = 0;
  uint32_t draw = 0;
};

// How the corrupted frames are stored: grey levels, or x = grey / 127.5 - 1, not clipped.
enum class Element { kUint8, kFloat16 };

// How one frame is made where that is a sum of cleaner frames, a blur and noise, spelled out for
// who makes frames elsewhere (run/device_frames). In grey levels, by the loops of frame_kernels.h.
struct FrameFormula {
  std::vector<int> parents;    // counted from the image, which is 0
  std::vector<float> weights;  // of the parents in their sum; none: the only parent as it is
  float offset = 0;            // the sum's
  std::vector<float> blur;     // down the columns, then along the rows, from its centre; none: none
  float noise = 0;             // N(0, 1) times this is added; 0: none
};

// The recipe worked out for one frame shape; immutable, used by many threads.
class Recipe {
 public:
  // Checks the config against the shape (Code::kUsage). A video source takes no operator: its
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

  // The same frames before they are rounded for storage, in grey levels and not clipped, of an
  // image in grey levels: the reference for tests and for fused kernels. Not for video sources.
  void apply_exact(const float* image, const ClipKey& key, float* corrupted) const;

  // Those of y_1 .. y_{T-1}; none if a frame is more than that.
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
