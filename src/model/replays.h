// A function of tensors that one piece of work asks again and again, such as the network for every
// noise level of a sampler: on a GPU it is recorded when it has met inputs of some shapes a few
// times, and replayed from then on, with the same bits. Elsewhere, and where gradients are wanted,
// it is just called. Not for functions that depend on anything but their inputs and weights that
// stay in their place. Called by diffusion_model.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lf {

class RecordedStep;

class Replays {
 public:
  using Function = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

  explicit Replays(Function function);
  ~Replays();
  Replays(const Replays&) = delete;
  Replays& operator=(const Replays&) = delete;

  // Inputs and outputs may be undefined.
  std::vector<at::Tensor> operator()(const std::vector<at::Tensor>& inputs);

 private:
  struct Recording {
    int calls = 0;
    std::vector<at::Tensor> inputs, outputs;
    std::unique_ptr<RecordedStep> graph;
  };

  Function function_;
  std::map<std::string, Recording> recordings_;  // by the inputs' layout
};

}  // namespace lf
