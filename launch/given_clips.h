// Clips that `lastframe sample` starts from, a group at a time: those of a store in the order of
// their ids, or of an array.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "model/model.h"
#include "run/run.h"

namespace lf {

class GivenClips {
 public:
  virtual ~GivenClips() = default;
  virtual int64_t frames() const = 0;                           // of a clip
  virtual Clips group(int64_t first, int64_t count) const = 0;  // on the model's device
};

// Of a store of the run's shape, with the side columns that its model looks at. Code::kUsage if
// there are fewer than `count`.
std::unique_ptr<GivenClips> clips_of_store(const std::string& folder, const Run& run,
                                           int64_t count);
// Of a .npy array of bytes [n, T, H, W, C].
std::unique_ptr<GivenClips> clips_of_array(const std::string& path, const Run& run, int64_t count);

}  // namespace lf
