// `lastframe train`: starts or resumes a run, or with --dry-run says what it would be.
#include "train/train.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "comm/world.h"
#include "config/config.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/plugin.h"
#include "launch/version.h"
#include "model/tokens/tokenizer.h"
#include "run/clips.h"
#include "run/exported_model.h"
#include "train/estimate.h"

namespace lf {
namespace {

// Of the codes of a clip, if the model makes any: what comparisons at equal size go by.
double bits_of(const Model& model, int frames) {
  const auto* tokenizer = dynamic_cast<const Tokenizer*>(&model);
  if (tokenizer == nullptr) return 0;
  const std::array<int64_t, 3> grid = tokenizer->grid(frames);
  return static_cast<double>(grid[0] * grid[1] * grid[2]) *
         std::log2(static_cast<double>(tokenizer->codes()));
}

struct Outlook {
  ClipShape shape;
  int64_t parameters, trained, steps;
  double bits;
  int ranks;
  std::optional<MemoryEstimate> memory;
};

Outlook outlook_of(const Config& config, int ranks, bool with_memory) {
  Outlook out{shape_of_config(config), 0, 0, 0, 0, ranks, {}};
  const std::unique_ptr<Model> model = make_model(config, out.shape, at::kCPU, {}, open_export);
  if (with_memory) out.memory = estimate_memory(*model, config, out.shape, ranks);
  out.parameters = model->parameters().count();
  for (const NamedTensor& weight : model->parameters().weights())
    out.trained += weight.tensor.numel();
  out.steps = (config.train().images() + config.train().batch() - 1) / config.train().batch();
  out.bits = bits_of(*model, out.shape.frames);
  return out;
}

void print_json(const Config& config, const Outlook& outlook) {
  const ClipShape& shape = outlook.shape;
  Json json;
  json.object([&] {
    json.field("parameters", outlook.parameters).field("trained_parameters", outlook.trained);
    if (outlook.memory) {
      json.field("memory_bytes", outlook.memory->total);
      json.field("memory_bytes_weights", outlook.memory->weights);
      json.field("memory_bytes_per_clip", outlook.memory->per_clip);
    }
    json.field("ranks", outlook.ranks).field("steps", outlook.steps);
    if (outlook.bits > 0) json.field("bits_per_clip", outlook.bits);
    json.array("clip_shape", [&] {
      for (const int side : shape.sides()) json.value(side);
    });
    json.key("config").raw(config_json(config));
  });
  std::puts(json.text().c_str());
}

void print_text(const Config& config, const Outlook& outlook) {
  const ClipShape& shape = outlook.shape;
  std::printf("%s\n# clips %d x %dx%dx%d, parameters %s, steps %s of %d clips\n",
              print_config(config).c_str(), shape.frames, shape.height, shape.width, shape.channels,
              human_count(static_cast<uint64_t>(outlook.parameters)).c_str(),
              human_count(static_cast<uint64_t>(outlook.steps)).c_str(), config.train().batch());
  if (outlook.bits > 0) std::printf("# codes of a clip: %.0f bits\n", outlook.bits);
  if (!outlook.memory) return;
  std::printf(
      "# memory per rank on %d ranks: about %s (weights, moments and averages %s, %s a clip)\n",
      outlook.ranks, human_bytes(outlook.memory->total).c_str(),
      human_bytes(outlook.memory->weights).c_str(), human_bytes(outlook.memory->per_clip).c_str());
}

// Without --config that of the run, if there is one already.
Config config_to_train(const Arguments& arguments) {
  const std::string own = arguments.get("--run") + "/config.pbtxt";
  if (!arguments.has("--config") && arguments.has("--run") && real_file_system().exists(own)) {
    return load_config(own, arguments.sets());
  }
  return config_of(arguments);
}

int run_train(const Arguments& arguments) {
  Config config = config_to_train(arguments);
  if (arguments.has("--dry-run")) {
    const Outlook outlook = outlook_of(config, static_cast<int>(arguments.integer("--ranks")),
                                       !arguments.has("--no-memory"));
    (arguments.has("--json") ? print_json : print_text)(config, outlook);
    return 0;
  }
  make_paths_absolute(config);
  TrainJob job;
  job.run_folder = arguments.get("--run");
  job.until_images = arguments.integer("--until-images", 0);
  job.code_version = version();
  job.accelerator = accelerator_of_machine();
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
     "print the resolved config, parameters, memory and steps; train nothing"},
    {"--ranks",
     integer(1, 1 << 20),
     "ranks for which the memory is estimated",
     {.fallback = "1", .only_with = "--dry-run"}},
    {"--no-memory",
     kNoValue,
     "leave out the memory, whose estimate runs small steps",
     {.only_with = "--dry-run"}},
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
        "events, samples/ and logs/.",
    .example =
        "lastframe train --config configs/quickstart.pbtxt --run runs/first\n"
        "launch/local -n 2 train --run runs/first\n"
        "lastframe train --config configs/quickstart.pbtxt --set train.batch=32 --dry-run --json",
    .options = kTrainOptions,
    .run = run_train,
    .hints = kTrainHints,
};

}  // namespace lf
