// Finds a loss that jumps out of the losses before it, for the log: somebody who looks for the
// reason of a bad run wants to know when it began. Decides nothing.
#pragma once

#include <cmath>

namespace lf {

class SpikeWatch {
 public:
  // How many standard deviations `loss` lies above the running mean; 0 while too few losses are
  // known. A jump counts for the mean no more than a loss at the edge of what is usual, so that one
  // spike does not hide the next.
  double add(double loss) {
    if (!std::isfinite(loss)) return 0;
    const double deviation = std::sqrt(variance_);
    const bool known = count_ >= kFirst && deviation > 0;
    const double height = known ? (loss - mean_) / deviation : 0;
    const double taken = height > kUsual ? mean_ + kUsual * deviation : loss;
    ++count_;
    const double share = count_ < kMemory ? 1.0 / count_ : 1.0 / kMemory;
    const double off = taken - mean_;
    mean_ += share * off;
    variance_ = (1 - share) * (variance_ + share * off * off);
    return height;
  }

 private:
  static constexpr int kFirst = 16, kMemory = 64;  // losses
  static constexpr double kUsual = 3;              // standard deviations
  int count_ = 0;
  double mean_ = 0, variance_ = 0;
};

}  // namespace lf
