// The stores of a run, and the rule where they are: train.store, or RUN/store, which a generated
// source is built into; train.validation_store, or the training store once more.
#pragma once

#include <memory>
#include <string>

#include "data/store/store.h"
#include "run.pb.h"

namespace lf {

struct RunStores {
  std::shared_ptr<const Store> training, validation;
};

std::string training_store_folder(const Config& config, const std::string& run_folder);

// Code::kUsage if the training store is another than `store_id`; "": any is right.
RunStores open_run_stores(const Config& config, const std::string& run_folder,
                          const std::string& store_id = "");

}  // namespace lf
