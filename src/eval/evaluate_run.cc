#include "eval/evaluate_run.h"

#include <ATen/Parallel.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/threads.h"
#include "comm/watchdog.h"
#include "config/config.h"
#include "eval/evaluate.h"
#include "eval/run_model.h"

namespace lf {
namespace {

// Rank 0 looks, all hear.
std::string choose_folder(World& world, const RunRequest& request) {
  std::string folder = request.checkpoint;
  if (folder.empty() && world.is_root()) folder = newest_checkpoint(request.run_folder);
  return world.broadcast(folder);
}

std::shared_ptr<const Store> open_store(const Config& config, const RunRequest& request,
                                        const CheckpointManifest& manifest) {
  const std::string folder =
      config.train().store().empty() ? request.run_folder + "/store" : config.train().store();
  std::shared_ptr<const Store> store = Store::open(folder);
  if (store->index().store_id() != manifest.store_id()) {
    fail(Code::kUsage, "the checkpoint was trained on store ", manifest.store_id(), ", ",
         printable(folder), " is store ", store->index().store_id(),
         "; say where the other is with --set train.store=FOLDER");
  }
  return store;
}

// Of every tensor that the model was given, by name and checksum.
std::string hash_of(const CheckpointManifest& manifest) {
  std::string text;
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "model" && file.kind() != "ema") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      text += str(file.kind(), " ", tensor.name(), " ", tensor.crc32c(), "\n");
    }
  }
  return str(manifest.images(), "-", std::hash<std::string>()(text));
}

}  // namespace

std::vector<Result> evaluate_run(World& world, const RunRequest& request) {
  const std::string path = request.run_folder + "/config.pbtxt";
  if (!real_file_system().exists(path)) {
    fail(Code::kUsage, printable(request.run_folder),
         " is no run folder: it has no config.pbtxt; give the folder that `lastframe train --run` "
         "was given");
  }
  const Config config = load_config(path, request.sets);
  world.agree("config", print_config(config));
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  const Watchdog watchdog(world, config.comm());
  const Watchdog::Phase phase("evaluation", 24 * 3600);
  EvaluationSubject subject;
  const std::string checkpoint = choose_folder(world, request);
  const RunModel run = open_run_model(checkpoint, subject.device, request.sets);
  subject.store = open_store(config, request, run.manifest);
  subject.validation = config.train().validation_store().empty()
                           ? subject.store
                           : Store::open(config.train().validation_store());
  subject.model = run.model.get();
  subject.run_folder = request.run_folder;
  subject.images = run.manifest.images();
  subject.weights = run.weights;
  subject.weights_hash = hash_of(run.manifest);
  if (world.is_root()) {
    LF_INFO("evaluating ", checkpoint, " (", subject.weights, ") on ", world.size(), " ranks of ",
            at::get_num_threads(), " threads");
  }
  std::vector<Result> results = evaluate_model(world, config.evaluation(), subject);
  if (world.is_root()) LF_INFO("wrote ", publish_results(results, subject));
  return results;
}

}  // namespace lf
