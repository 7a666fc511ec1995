// What the steps since the last report came to, on one rank. Step fills it, the trainer adds the
// waits around the step, the coordinator reports it over all ranks and clears it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace lf {

// The loss and its named parts: of a step, or summed over several.
struct LossSum {
  int64_t steps = 0;
  double total = 0;
  std::map<std::string, double> terms;
  void add(const LossSum& other) {
    steps += other.steps;
    total += other.total;
    for (const auto& [name, value] : other.terms) terms[name] += value;
  }
};

struct StepTally {
  LossSum loss;  // over the steps that were not skipped
  int64_t skipped = 0;
  double gradient_norm = 0, lr = 0;  // of the last step
  // Seconds. `model`: forward, backward and the communication that they did not hide.
  double model = 0, communication = 0, data_wait = 0, checkpoint_stall = 0;
};

}  // namespace lf
