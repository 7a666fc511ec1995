#include "launch/evaluate_run.h"

#include <ATen/Parallel.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "comm/watchdog.h"
#include "config/config.h"
#include "eval/evaluate.h"
#include "launch/plugin.h"
#include "run/accelerator.h"
#include "run/clips.h"
#include "run/run_model.h"

namespace lf {
namespace {

std::shared_ptr<const Store> open_store(const Config& config, const std::string& run_folder,
                                        const CheckpointManifest& manifest) {
  const std::string folder =
      config.train().store().empty() ? run_folder + "/store" : config.train().store();
  std::shared_ptr<const Store> store = Store::open(folder);
  if (store->index().store_id() != manifest.store_id()) {
    fail(Code::kUsage, "the checkpoint was trained on store ", manifest.store_id(), ", ",
         printable(folder), " is store ", store->index().store_id(),
         "; say where the other is with --set train.store=FOLDER");
  }
  return store;
}

}  // namespace

std::vector<Result> evaluate_run(World& world, const RunRequest& request) {
  const std::string asked = request.checkpoint.empty() ? request.folder : request.checkpoint;
  // Rank 0 chooses: the run may be training, and save another meanwhile.
  const std::string folder =
      world.broadcast(world.is_root() ? newest_checkpoint(asked) : std::string());
  const CheckpointManifest manifest = read_manifest(real_file_system(), folder);
  const Config config = run_config(manifest, folder, request.sets);
  world.agree("config", print_config(config));
  at::set_num_threads(request.threads);
  const Watchdog watchdog(world, config.comm());
  const Watchdog::Phase phase("evaluation", 24 * 3600);
  EvaluationSubject subject;
  subject.store = open_store(config, request.folder, manifest);
  subject.validation = config.train().validation_store().empty()
                           ? subject.store
                           : Store::open(config.train().validation_store());
  subject.device = choose_device(world, config.train(), accelerator_of_machine());
  const RunModel run = open_run_model(folder, subject.device, request.sets);
  subject.model = run.model.get();
  subject.run_folder = request.folder;
  subject.images = manifest.images();
  subject.weights = run.weights;
  subject.weights_text = weights_text(manifest, config);
  if (world.is_root()) {
    LF_INFO("evaluating ", folder, " (", subject.weights, ") on ", world.size(), " ranks of ",
            at::get_num_threads(), " threads");
  }
  std::vector<Result> results = evaluate_model(world, config.evaluation(), subject);
  if (world.is_root()) {
    LF_INFO("wrote ", publish_record(record_of(results, subject.images), request.folder));
  }
  return results;
}

}  // namespace lf
