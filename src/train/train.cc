#include "train/train.h"

#include "base/error.h"
#include "train/evaluators.h"
#include "train/trainer.h"

namespace lf {

int run_training(World& world, const Config& config, const TrainJob& job) {
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
