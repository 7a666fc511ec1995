// A function of tensors that is called many times, such as the network at every noise level of a
// sampler. On a GPU it is recorded after a few calls with inputs of the same shapes and replayed
// from then on, with the same bits. On CPUs and with gradients enabled it is just called. The
// function may depend only on its inputs and on weights whose addresses do not change.
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
