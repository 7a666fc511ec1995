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

// The config of a training on the stores that it names: what it leaves unset of source, recipe and
// store is train.store's. Code::kUsage, naming both values, for what it sets otherwise than the
// store was built by, and for a validation store of other clips.
Config config_on_stores(Config asked);

// Code::kUsage if the training store is another than `store_id`, "": any is right; or if the clips
// of the validation store are of another recipe or shape.
RunStores open_run_stores(const Config& config, const std::string& run_folder,
                          const std::string& store_id = "");

}  // namespace lf
