#include "train/train.h"

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/retention.h"
#include "run/older_programs.h"
#include "train/evaluators.h"
#include "train/saver.h"
#include "train/trainer.h"

namespace lf {

// Collective. With what the run's checkpoints tell of it, if an older program began it. A config
// that draws its own store is compared here, for the store lies in the run's folder.
static Config as_begun(World& world, Config config, const std::string& run_folder) {
  if (world.is_root()) {
    for (const Candidate& candidate :
         list_checkpoints(real_file_system(), run_folder, Depth::kQuick)) {
      if (!candidate.valid()) continue;
      complete_config(config, candidate.manifest);
      if (config.train().store().empty()) {
        require_same_run(config, RunIdentity{run_folder, "", "", {}}, candidate.manifest);
      }
      break;
    }
  }
  const std::string model = world.broadcast(config.model().SerializeAsString());
  LF_CHECK(config.mutable_model()->ParseFromString(model), "rank 0's model cannot be parsed");
  return config;
}

int run_training(World& world, const Config& asked, const TrainJob& job) {
  const Config config = as_begun(world, asked, job.run_folder);
  const int apart = config.evaluation().ranks();
  if (apart == 0) return Trainer(world, config, job).run();
  if (config.evaluation().every_images() == 0) {
    fail(Code::kUsage, "evaluation.ranks is ", apart, " but evaluation.every_images is 0: ",
         "those ranks would have nothing to do; set both, or neither");
  }
  if (apart >= world.size()) {
    fail(Code::kUsage, "evaluation.ranks is ", apart, " of ", world.size(),
         world.size() == 1 ? " rank" : " ranks", ", which leaves none to train; start with more, ",
         "such as mpirun -n ", apart + 1);
  }
  const bool evaluates = world.rank() >= world.size() - apart;
  World& part = world.part(evaluates ? 1 : 0);
  if (evaluates) return evaluate_apart(world, part, config, job);
  return Trainer(part, config, job, &world).run();
}

}  // namespace lf
