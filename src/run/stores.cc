#include "run/stores.h"

#include "base/error.h"
#include "base/text.h"

namespace lf {

std::string training_store_folder(const Config& config, const std::string& run_folder) {
  return config.train().store().empty() ? run_folder + "/store" : config.train().store();
}

RunStores open_run_stores(const Config& config, const std::string& run_folder,
                          const std::string& store_id) {
  const std::string folder = training_store_folder(config, run_folder);
  RunStores stores;
  stores.training = Store::open(folder);
  if (const std::string found = stores.training->index().store_id();
      !store_id.empty() && found != store_id) {
    fail(Code::kUsage, "the checkpoint was trained on store ", store_id, ", ", printable(folder),
         " is store ", found, "; give the other's folder with --set train.store=FOLDER");
  }
  stores.validation = config.train().validation_store().empty()
                          ? stores.training
                          : Store::open(config.train().validation_store());
  return stores;
}

}  // namespace lf
