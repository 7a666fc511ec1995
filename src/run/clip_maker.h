// Clips that a model makes, as bytes, in groups of consecutive numbers that are dealt over the
// ranks and kept on disk. A clip's bits depend on its number, the groups and the batches, never on
// the ranks. Whether clips are sampled or reconstructed is the function's that is handed over.
#pragma once

#include <functional>
#include <string>

#include "run.pb.h"
#include "run/chunks.h"

namespace lf {

// Clips `first` to `first + count - 1`, [count, T, H, W, C] in [-1, 1] on any device.
using MakeClips = std::function<at::Tensor(int64_t first, int64_t count)>;

struct ClipGroups {
  std::string what;  // "samples", "reconstructions"
  Chunks groups;
  int64_t batch = 1;  // clips in one call of the model
  Precision precision = FP32;
  at::Device device = at::kCPU;
  ChunkCache kept = {};  // by default nothing is kept
};

class ClipMaker {
 public:
  ClipMaker(MakeClips make, ClipGroups groups);

  // uint8 [length, T, H, W, C] of one group, from disk if it is kept there. Code::kNotFinite naming
  // the clips if the model makes such.
  at::Tensor group(int64_t number);
  // Collective. Logs how long making what is not kept will take, by making a
  // few first, unless there is little to do.
  void announce_cost(World& world) const;
  // Collective. Hands this rank's groups to `take` one after the other and shows the progress.
  // Code::kInterrupted on every rank if one was asked to stop.
  void for_own_groups(World& world, const std::string& title,
                      const std::function<void(const at::Tensor& clips)>& take);

  const std::string& what() const { return how_.what; }
  const Chunks& groups() const { return how_.groups; }
  // By this rank; what came from disk was made at another time.
  int64_t made() const { return made_; }
  double seconds() const { return seconds_; }

 private:
  at::Tensor make_group(int64_t first, int64_t count);

  const MakeClips make_;
  const ClipGroups how_;
  int64_t made_ = 0;
  double seconds_ = 0;
};

}  // namespace lf
