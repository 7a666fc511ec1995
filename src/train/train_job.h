// What a process is asked to train, beside the config.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "model/model.h"
#include "run/accelerator.h"

namespace lf {

struct TrainJob {
  std::string run_folder;
  int64_t until_images = 0;  // ends a slice cleanly; 0: the whole run
  std::string code_version;  // of this program, for the checkpoints' manifests
  Accelerator accelerator;   // of this machine
  ModelMaker make = make_model;
  // Writes what people see of the run from its files; empty: nothing. Called on rank 0.
  std::function<void(const std::string& run_folder)> show;
};

}  // namespace lf
