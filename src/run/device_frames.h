// Pseudo videos of a RECOMPUTED store made on the device that trains: only images cross the bus,
// and no core of the host blurs. The same floats as the host's, to the bit. For recipes of weighted
// sums, blur and noise (data/recipe/recipe's formulas); others, and stores that hold their frames,
// stay with the loader's threads.
#pragma once

#include <memory>
#include <vector>

#include "data/loader/loader.h"
#include "kernels/dispatch.h"
#include "model/model.h"

namespace lf {

class DeviceFrames {
 public:
  // nullptr where the frames of this store are made on the host: what is named above, or no
  // fused operations for the device.
  static std::unique_ptr<DeviceFrames> of(std::shared_ptr<const Store> store, at::Device device,
                                          const KernelChoice& kernels);

  // [-1, 1] of a batch of a loader that reads last frames only.
  at::Tensor clips(const Batch& batch) const;

 private:
  DeviceFrames(std::shared_ptr<const Store> store, std::vector<FrameFormula> formulas,
               at::Device device);

  std::shared_ptr<const Store> store_;
  std::vector<FrameFormula> formulas_;
  at::Device device_;
  std::vector<at::Tensor> blurs_;  // of the formulas, undefined where there is none
};

}  // namespace lf
