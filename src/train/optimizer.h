// AdamW over one phase's weights: state by name, learning-rate schedule in images, clipping by the
// global norm, one fused update. A gradient that is not finite on any rank is not finite in the
// all-reduced sum, so every rank skips the same update. The checkpoint saves the state.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <string>
#include <vector>

#include "model/model.h"
#include "run.pb.h"

namespace lf {

// The factor of the learning rate of the weight `name` (train.optimizer.factor).
double learning_rate_factor(const OptimizerConfig& config, const std::string& name);
// The patterns of those factors. Code::kUsage on what is not "PATTERN=FACTOR".
std::vector<std::string> factor_patterns(const OptimizerConfig& config);

// The learning rate after `images` clips, `base` being the one after warm-up.
double learning_rate(const OptimizerConfig& config, double base, int64_t images,
                     int64_t run_images);

class Optimizer {
 public:
  Optimizer(const Phase& phase, const OptimizerConfig& config);

  // The global norm of the gradients, fp32 on the weights' device; all of them must be there.
  at::Tensor gradient_norm() const;
  // For the steps from now on.
  void set_learning_rate(double lr);
  // Clips by `norm`, which gradient_norm() gave, and moves the weights; if it is not finite,
  // nothing moves. Does not wait for the device.
  void step(const at::Tensor& norm);
  // Weights stand still and take no gradient while another phase has its turn.
  void enable(bool on);

  // "NAME/exp_avg", "NAME/exp_avg_sq" for every weight and "PHASE/steps".
  std::vector<NamedTensor> state() const;
  const Phase& phase() const { return phase_; }

 private:
  struct Group {  // weights of equal decay and learning rate
    double weight_decay, factor;
    at::Tensor lr;  // on the device, where a recorded step reads it
    std::vector<at::Tensor> weights, exp_avg, exp_avg_sq;
    std::vector<at::Tensor> steps;  // steps_ itself for each: the update only reads them
  };
  Group& group_of(const NamedTensor& weight);
  std::vector<at::Tensor> gradients() const;

  Phase phase_;
  OptimizerConfig config_;
  std::vector<at::Tensor> weights_;
  at::Tensor steps_;
  std::vector<Group> groups_;
  std::vector<std::array<at::Tensor, 2>> moments_;  // of each weight, those of its group
};

}  // namespace lf
