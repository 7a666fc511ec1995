#include "run/stores.h"

#include <set>

#include "base/error.h"
#include "base/text.h"
#include "data/sources/source.h"
#include "data/store/build.h"
#include "data/store/identity.h"

namespace lf {
namespace {

[[noreturn]] void refuse_contradictions(const std::string& folder,
                                        const std::vector<Contradiction>& found) {
  std::vector<std::string> lines;
  std::set<std::string> groups;
  for (const Contradiction& one : found) {
    lines.push_back(str(one.path, " is ", one.asked, ", the store's ", one.held));
    groups.insert("--set " + split(one.path, '.').front() + "={}");
  }
  fail(Code::kUsage, "the store ", printable(folder),
       " was built by other options than this config sets: ", printable(join(lines, "; "), 1000),
       "; build a store of this config, or leave these options to the store (",
       join({groups.begin(), groups.end()}, " "), " unsets them)");
}

// The store that an option of the config names; it may have moved since a run recorded its place.
std::shared_ptr<const Store> open_named(const std::string& folder, const char* option,
                                        ReadMode mode) {
  try {
    return Store::open(folder, 0, mode);
  } catch (const Error& error) {
    if (error.code() != Code::kUsage) throw;
    fail(Code::kUsage, error.what(), "; if it has moved, --set ", option, "=FOLDER says where to");
  }
}

void check_validation(const std::string& folder, const StoreIndex& validation,
                      const StoreIndex& training) {
  const std::vector<std::string> lines = clip_differences(training, validation);
  if (lines.empty()) return;
  fail(Code::kUsage, "train.validation_store: ", printable(folder),
       " holds other clips than the training store: ", printable(join(lines, "; "), 1000),
       "; build it by the same recipe from images of the same size");
}

}  // namespace

std::string training_store_folder(const Config& config, const std::string& run_folder) {
  return config.train().store().empty() ? run_folder + "/store" : config.train().store();
}

Config config_on_stores(Config asked) {
  const std::string& folder = asked.train().store();
  const std::string& validation = asked.train().validation_store();
  StoreIndex training;
  if (!folder.empty()) {
    training = open_named(folder, "train.store", PREAD)->index();
    const std::vector<Contradiction> found = contradictions(asked, training);
    if (!found.empty()) refuse_contradictions(folder, found);
    const Config held = options_of(training);
    *asked.mutable_source() = held.source();
    *asked.mutable_recipe() = held.recipe();
    asked.mutable_store()->MergeFrom(held.store());
  } else if (!validation.empty() && asked.source().has_generated()) {
    training = plan_store(asked, *open_source(asked.source()));
  } else {
    return asked;
  }
  if (!validation.empty()) {
    const auto store = open_named(validation, "train.validation_store", PREAD);
    check_validation(validation, store->index(), training);
  }
  return asked;
}

RunStores open_run_stores(const Config& config, const std::string& run_folder,
                          const std::string& store_id) {
  const std::string folder = training_store_folder(config, run_folder);
  RunStores stores;
  stores.training = open_named(folder, "train.store", config.loader().read());
  if (const std::string found = stores.training->index().store_id();
      !store_id.empty() && found != store_id) {
    fail(Code::kUsage, "the checkpoint was trained on store ", store_id, ", ", printable(folder),
         " is store ", found, "; give the other's folder with --set train.store=FOLDER");
  }
  stores.validation = stores.training;
  if (const std::string& validation = config.train().validation_store(); !validation.empty()) {
    stores.validation = open_named(validation, "train.validation_store", config.loader().read());
    check_validation(validation, stores.validation->index(), stores.training->index());
  }
  return stores;
}

}  // namespace lf
