// `lastframe train`: starts or resumes a run, or with --dry-run says what it would be.
#include "train/train.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "base/text.h"
#include "comm/world.h"
#include "config/config.h"
#include "config/meaning.h"
#include "data/store/layout.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "launch/run_estimate.h"
#include "launch/version.h"
#include "report/report.h"
#include "run/stores.h"

namespace lf {
namespace {

void print_dry_run(const Arguments& arguments, const Config& config) {
  const RunEstimate estimate = estimate_of(arguments, config);
  if (!World::join().is_root()) return;
  if (!arguments.has("--json")) {
    const std::string text = estimate_text(estimate, config);
    print(print_config(config) + "\n# " +
          join(split(text.substr(0, text.size() - 1), '\n'), "\n# ") + "\n");
    return;
  }
  Json json;
  json.object([&] {
    add_estimate(json, estimate);
    json.key("config").raw(config_json(config));
  });
  print(json.text() + "\n");
}

// Without --config that of the run, if there is one already. What it says of a store that exists is
// left to the store: older programs recorded what was asked for, not what was trained on.
Config config_to_train(const Arguments& arguments) {
  const std::string run = arguments.get("--run"), own = run + "/config.pbtxt";
  const bool begun = arguments.has("--run") && real_file_system().exists(own);
  if (arguments.has("--run") && !begun && !arguments.has("--config") && arguments.sets().empty()) {
    arguments.refuse("there is no run in ", printable(run), "; give --config to begin one");
  }
  if (!begun || arguments.has("--config")) return config_of(arguments);
  Config config = load_config(own, {});
  if (!config.train().store().empty()) {
    config.clear_source();
    config.clear_recipe();
    config.clear_store();
  }
  set_options(config, arguments.sets());
  return config;
}

// What a training on a finished store has no use for.
const std::vector<CallCondition> kConditions = {{"store.threads", "!train.store"},
                                                {"store.strict", "!train.store"},
                                                {"store.shard_mib", "!train.store"},
                                                {"store.clips_per_shard", "!train.store"}};

int run_train(const Arguments& arguments) {
  if (const std::string run = arguments.get("--run");
      !run.empty() && real_file_system().exists(index_path(run))) {
    arguments.refuse("--run is ", printable(run),
                     ", which is a store; expected the run's own folder");
  }
  const Config asked = config_to_train(arguments);
  check_meaning(asked, arguments.sets(), kConditions);
  Config config = config_on_stores(asked);
  if (arguments.has("--dry-run")) {
    print_dry_run(arguments, config);
    return 0;
  }
  make_paths_absolute(config);
  TrainJob job;
  job.run_folder = arguments.get("--run");
  job.until_images = arguments.integer("--until-images", 0);
  job.code_version = version();
  job.accelerator = accelerator_of_machine();
  job.show = [](const std::string& run_folder) {
    write_run_report(real_file_system(), run_folder, version());
  };
  catch_stop_signals();  // before the first thing that takes time
  World& world = World::join();
  start_log("lastframe", world.rank());
  world.agree("config", print_config(config) + job.run_folder);
  const int status = run_training(world, config, job);
  world.barrier();  // a status other than 0 ends all ranks; they are all to have closed their files
  return status;
}

constexpr Option kTrainOptions[] = {
    kConfigOption,
    kSetOption,
    {"--run",
     output("DIR", "/"),
     "the run folder; the same command starts a run and resumes it, also without --config",
     {.required = "--dry-run"}},
    {"--until-images", integer(1, kNoLimit),
     "exit with a checkpoint and status 0 once N images are seen"},
    {"--dry-run", kNoValue,
     "print the resolved config, parameters by part, arithmetic, memory and steps; train nothing; "
     "needs no data where the config tells the shape"},
    only_with("--dry-run", kRanksOption),
    only_with("--dry-run", kNoMemoryOption),
    only_with("--dry-run", kJsonOption),
};

constexpr Hint kTrainHints[] = {
    {"--resume", "the same command starts a run and resumes it: give --run DIR alone"},
    {"--out", "the folder of the run is given as --run DIR"},
    {"--epochs", "progress is counted in images: --set train.images=N"},
    {"--steps", "progress is counted in images: --set train.images=N"},
};

}  // namespace

const Command kTrainCommand = {
    .name = "train",
    .summary = "trains a model on a store, or resumes training",
    .details =
        "Progress, data order and schedules are counted in images, so they do not depend on batch "
        "and ranks. SIGUSR1, SIGTERM and the end of the allocation lead to a checkpoint and "
        "status 75 (start the same command again); a file named STOP in the run folder to a "
        "checkpoint and status 0. Without train.store, a generated source is first built under "
        "the run folder.\n"
        "\n"
        "Without --config a run resumes by its own, RUN/config.pbtxt, in which the paths of stores "
        "are absolute: --set train.store=DIR names one that has moved. train.batch may change.\n"
        "\n"
        "launch/local starts ranks on this machine so that Ctrl-C leads to a checkpoint. mpirun "
        "itself kills its ranks 2 s after Ctrl-C: the state of the last step is then saved by a "
        "process that outlives them, on CPUs; on GPUs what was done since the last checkpoint is "
        "lost (checkpoint.every_minutes).\n"
        "\n"
        "A run whose loss is above 3 times its first, or not finite, in 5 logged steps in a row is "
        "said to have diverged, in the log and in status.json; it trains on, and the exit status "
        "stays as above.\n"
        "\n"
        "The run folder holds config.pbtxt, status.json, checkpoints/, metrics.jsonl, TensorBoard "
        "events, samples/, evaluations/, logs/ and report.html, which shows all that in a browser "
        "and is written anew while the run trains.",
    .example =
        "lastframe train --config configs/quickstart.pbtxt --run runs/first\n"
        "launch/local -n 2 train --run runs/first\n"
        "lastframe train --config configs/quickstart.pbtxt --set train.batch=32 --dry-run --json",
    .options = kTrainOptions,
    .run = run_train,
    .hints = kTrainHints,
};

}  // namespace lf
