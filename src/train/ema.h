// A running average of the weights, counted in images so that the batch size does not matter: with
// a half-life, or with a power function of given relative width (which needs no tuning to the
// length of the run).
#pragma once

#include <vector>

#include "model/model.h"
#include "run.pb.h"

namespace lf {

// The exponent of a power-function average whose profile has this relative width (0.05 -> 16.972,
// 0.10 -> 6.937, 0.15 -> 3.558).
double ema_exponent(double relative_width);

// How much of the old average stays when the run goes from `before` to `after` images.
double ema_decay(const EmaConfig& config, int64_t before, int64_t after);

class Ema {
 public:
  Ema(const EmaConfig& config, const std::vector<NamedTensor>& weights);
  bool enabled() const { return !average_.empty(); }
  // How far the updates from now on go: those of a step from `images_before` to `images_after`.
  void set_step(int64_t images_before, int64_t images_after);
  // Where `moved`, a number on the weights' device, is 0, the step was skipped and the averages
  // stay as they are. Does not wait for a GPU.
  void update(const at::Tensor& moved);
  // The averages by the weights' names (the weights themselves if disabled).
  const std::vector<NamedTensor>& tensors() const { return enabled() ? average_ : weights_; }

  // Exchanges weights and averages by reference for as long as it lives: evaluation without a copy.
  class Swap {
   public:
    explicit Swap(Ema& ema);
    ~Swap();
    Swap(const Swap&) = delete;
    Swap& operator=(const Swap&) = delete;

   private:
    Ema& ema_;
    std::vector<at::Tensor> kept_;
  };

 private:
  EmaConfig config_;
  std::vector<NamedTensor> weights_, average_;
  std::vector<at::Tensor> averages_, sources_;  // the tensors of the two, as ATen takes them
  double share_ = 0;                            // of the new weights in the next update
  at::Tensor share_there_;                      // on a GPU, where a recorded step reads it
};

}  // namespace lf
