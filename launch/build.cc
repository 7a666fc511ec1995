// `lastframe build`: builds a store from a config. Building is data/store's.
#include "data/store/build.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/host.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/stop_signals.h"
#include "comm/world.h"
#include "config/config.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/store_tasks.h"

namespace lf {
namespace {

// The slice of the shards that the ranks of this job build: K of N.
struct Part {
  int rank = 0, size = 1;
};

bool number_of(const char* variable, int64_t* value) {
  const char* text = std::getenv(variable);
  return text != nullptr && parse(text, value);
}

Part part_of_array(const Arguments& arguments) {
  int64_t index = 0, count = 1;
  if (arguments.has("--part")) {
    const std::vector<std::string> words = split(arguments.get("--part"), '/');
    if (words.size() != 2 || !parse(words[0], &index) || !parse(words[1], &count) || index < 0 ||
        index >= count || count > 1'000'000) {
      arguments.refuse("--part is '", printable(arguments.get("--part")),
                       "', expected K/N with 0 <= K < N, such as 0/4");
    }
  } else if (int64_t id = 0, first = 0, step = 1;
             number_of("SLURM_ARRAY_TASK_ID", &id) && number_of("SLURM_ARRAY_TASK_COUNT", &count)) {
    number_of("SLURM_ARRAY_TASK_MIN", &first);
    number_of("SLURM_ARRAY_TASK_STEP", &step);
    index = (id - first) / std::max<int64_t>(1, step);
    if (index < 0 || index >= count) {
      fail(Code::kUsage, "SLURM_ARRAY_TASK_ID=", id, " is not one of ", count, " tasks from ",
           first, " in steps of ", step, "; say --part K/N");
    }
  }
  return {static_cast<int>(index), static_cast<int>(count)};
}

void print_plan(const Config& config, const Source& source, bool as_json) {
  const StoreIndex plan = plan_store(config, source);
  const StorePart& part = plan.parts(0);
  const std::vector<std::string> groups = {"source", "recipe", "store"};
  if (!as_json) {
    print(str(print_config(config, groups), "\n# ", part.items(), " items, ", part.shards(),
              " shards of ", part.items_per_shard(), ", store ", plan.store_id(), "\n"));
    return;
  }
  Json report;
  report.object([&] {
    report.field("store_id", plan.store_id());
    report.field("items", part.items());
    report.field("shards", part.shards());
    report.key("config").raw(config_json(config, groups));
  });
  print(report.text() + "\n");
}

int run_build(const Arguments& arguments) {
  BuildRequest request;
  request.config = config_of(arguments);  // what can be refused at once is, before MPI starts
  const Part part = part_of_array(arguments);
  World& world = World::join();
  start_log("lastframe", world.rank());
  const std::unique_ptr<Source> source = open_source(request.config.source());
  const bool as_json = arguments.has("--json");
  if (arguments.has("--dry-run")) {
    if (world.is_root()) print_plan(request.config, *source, as_json);
    return 0;
  }
  request.folder = arguments.get("--out");
  world.agree("config", print_config(request.config) + request.folder);
  request.source = source.get();
  request.rank = part.rank * world.size() + world.rank();
  request.size = part.size * world.size();
  request.threads = threads_for(request.config.store().threads(), world.local_size());
  catch_stop_signals();
  set_stop_file(request.folder + "/STOP");

  BuildResult result;
  {
    ReportedProgress shown("build", source->shape().frames > 1 ? "clips" : "images");
    if (world.is_root()) {
      request.on_progress = [&](const BuildProgress& progress) {
        shown.show(progress.items, progress.total, progress.kept);
      };
    }
    result = build_store(request);
  }
  world.barrier();
  const bool stopped = world.max(int64_t{result.stopped}) > 0;
  if (!world.is_root()) return 0;
  if (stopped) {
    LF_WARN("stopped by the file ", printable(request.folder),
            "/STOP; remove it and run the same command again to continue");
    return 0;
  }
  // The last rank to finish has written the index, unless the file system showed names late.
  if (!result.complete && !finish_build(real_file_system(), request.folder, request.threads)) {
    LF_INFO("part ", part.rank, " of ", part.size,
            " is done; the last part to finish writes the index");
    return 0;
  }
  report_store(request.folder, as_json, arguments.number("--most-left-out"));
  return 0;
}

constexpr Option kBuildOptions[] = {
    {"--out",
     output("DIR", "/"),
     "folder of the store; must be new, empty, or hold the same store",
     {.required = "--dry-run"}},
    kConfigOption,
    set_option_of("source|recipe|store"),
    {"--part",
     text("K/N"),
     "build only part K of N, 0 <= K < N",
     {.computed = "0/1, or by SLURM_ARRAY_TASK_ID"}},
    {"--strict", of_config("store.strict"),
     "fail (exit 3) on the first unusable item instead of leaving it out"},
    {"--most-left-out",
     number(0, 1),
     "largest share of the source's items that may be left out; a build that left out more ends "
     "with status 3, and its store is kept",
     {.fallback = "0.1"}},
    {"--dry-run", kNoValue,
     "print the resolved config and the number of items and shards; build nothing"},
    kJsonOption,
};

}  // namespace

const Command kBuildCommand = {
    .name = "build",
    .summary = "builds a store of pseudo videos from images or videos",
    .details =
        "Run it again after any interruption: finished shards are kept. Under mpirun or in a "
        "SLURM array each process builds its share; the bytes do not depend on their number. "
        "Pictures of several sizes need source.size; at most 1,000 headers are looked at first. "
        "Unusable items are left out and listed in DIR/quarantine.txt. SIGUSR1 and SIGTERM stop "
        "it with status 75 (start the same command again), a file DIR/STOP with status 0.",
    .example =
        "lastframe build --set source.folder.path=photos --set source.size=64 --out "
        "stores/photos\n"
        "mpirun -n 4 lastframe build --config configs/cifar10/cvivit.pbtxt \\\n"
        "    --set source.cifar.path=DIR --out stores/cifar10",
    .options = kBuildOptions,
    .run = run_build,
};

}  // namespace lf
