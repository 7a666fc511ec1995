#include "launch/evaluate_run.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "base/log.h"
#include "comm/threads.h"
#include "comm/watchdog.h"
#include "config/config.h"
#include "eval/evaluate.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "run/accelerator.h"
#include "run/run.h"

namespace lf {

std::vector<Result> evaluate_run(World& world, const RunRequest& request) {
  Run run = open_run(world, request.folder, request.sets, request.checkpoint);
  const EvaluationConfig& config = run.config.evaluation();
  world.agree("config", print_config(run.config));
  at::set_num_threads(threads_of_rank(world, request.threads));
  const Watchdog watchdog(world, run.config.comm());
  const Watchdog::Phase phase("evaluation", 24 * 3600);
  run.open_stores();
  run.load_model(choose_device(world, run.config.train(), accelerator_of_machine()));
  if (world.is_root()) {
    LF_INFO("evaluating ", run.checkpoint.folder(), " (", run.weights, ") on ",
            counted(static_cast<uint64_t>(world.size()), "rank"), " of ",
            counted(static_cast<uint64_t>(at::get_num_threads()), "thread"));
  }
  EvaluationSubject subject = subject_of(run);
  subject.reference_count = request.reference_count;
  subject.says_cost = true;
  subject.samples_asked =
      std::any_of(request.sets.begin(), request.sets.end(),
                  [](const std::string& set) { return set.starts_with("evaluation.samples="); });
  subject.making_key = run.making_key(config.precision());
  std::vector<Result> results = evaluate_model(world, config, subject);
  if (world.is_root()) {
    log_written(publish_record(record_of(results, run.images()), run.folder));
  }
  return results;
}

}  // namespace lf
