// The first weights of a run, taken from another run or from a file (train.init): which tensors are
// taken as they are, which are adapted to more classes, frames or pixels, which begin anew, and
// which are left out. Not a resume: there are no moments and no position, and the source is not
// looked at again.
#pragma once

#include <string>
#include <vector>

#include "model/model.h"
#include "record.pb.h"

namespace lf {

struct InitialWeights {
  InitRecord record;
  std::vector<std::string> summary;  // a few lines for the log
  std::string list;                  // a line a tensor
};

// Reads config.train().init() into the model's tensors. Code::kUsage, naming tensors, if they do
// not fit; Code::kCheckpoint if what is read is damaged or the run has no checkpoint.
InitialWeights take_initial_weights(const Config& config, const Model& model);

}  // namespace lf
