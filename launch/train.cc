// `lastframe train`: starts or resumes a run, or with --dry-run says what it would be.
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "comm/world.h"
#include "config/config.h"
#include "eval/clips.h"
#include "eval/run_model.h"
#include "launch/commands.h"
#include "launch/plugin.h"
#include "launch/version.h"
#include "train/estimate.h"
#include "train/trainer.h"

namespace lf {
namespace {

int dry_run(const Config& config, int ranks, bool as_json) {
  const ClipShape shape = shape_of_config(config);
  const std::unique_ptr<Model> model = make_model(config, shape, at::kCPU, {}, open_export);
  const MemoryEstimate memory = estimate_memory(*model, config, shape, ranks);
  const int64_t parameters = model->parameters().count();
  int64_t trained = 0;
  for (const NamedTensor& weight : model->parameters().weights()) trained += weight.tensor.numel();
  const int64_t steps =
      (config.train().images() + config.train().batch() - 1) / config.train().batch();
  if (as_json) {
    Json json;
    json.object([&] {
      json.field("parameters", parameters).field("trained_parameters", trained);
      json.field("memory_bytes", memory.total);
      json.field("memory_bytes_weights", memory.weights);
      json.field("memory_bytes_per_clip", memory.per_clip);
      json.field("ranks", ranks).field("steps", steps);
      json.array("clip_shape", [&] {
        for (const int side : {shape.frames, shape.height, shape.width, shape.channels})
          json.value(side);
      });
      json.key("config").raw(config_json(config));
    });
    std::puts(json.text().c_str());
    return 0;
  }
  std::printf(
      "%s\n# clips %d x %dx%dx%d, parameters %s, steps %s of %d clips\n"
      "# memory per rank on %d ranks: about %s (weights, moments and averages %s, %s a clip)\n",
      print_config(config).c_str(), shape.frames, shape.height, shape.width, shape.channels,
      human_count(static_cast<uint64_t>(parameters)).c_str(),
      human_count(static_cast<uint64_t>(steps)).c_str(), config.train().batch(), ranks,
      human_bytes(memory.total).c_str(), human_bytes(memory.weights).c_str(),
      human_bytes(memory.per_clip).c_str());
  return 0;
}

}  // namespace

int run_train(const Arguments& arguments) {
  const Config config = load_config(arguments.get("--config"), arguments.all("--set"));
  if (arguments.has("--dry-run")) {
    return dry_run(config, static_cast<int>(arguments.number("--ranks", 1, 1, 1 << 20)),
                   arguments.has("--json"));
  }
  TrainJob job;
  job.run_folder = arguments.required("--run");
  job.until_images = arguments.number("--until-images", 0, 1, int64_t{1} << 60);
  job.code_version = version();
  job.accelerator = accelerator_of_machine();
  catch_stop_signals();  // before the first thing that takes time
  World& world = World::join();
  start_log("lastframe", world.rank());
  world.agree("config", print_config(config) + job.run_folder);
  int status = 0;
  {
    Trainer trainer(world, config, job);
    status = trainer.run();
  }
  world.barrier();  // a status other than 0 ends all ranks; they are all to have closed their files
  return status;
}

}  // namespace lf
