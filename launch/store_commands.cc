// `lastframe build | verify | merge | export`: stores made, checked, joined and taken out. They
// only translate words into calls of data/ and print; inspect is in store_inspect.cc.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/stop.h"
#include "base/stop_signals.h"
#include "comm/world.h"
#include "config/config.h"
#include "data/store/build.h"
#include "data/store/export.h"
#include "data/store/merge.h"
#include "data/store/store.h"
#include "data/store/verify.h"
#include "launch/command.h"
#include "launch/commands.h"

namespace lf {
namespace {

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(Code::kStorage);
}

int threads_for(int wanted, int ranks_here) {
  if (wanted > 0) return wanted;
  cpu_set_t set;
  const int cores = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, cores / std::max(1, ranks_here));
}

// Which slice of the shards this process makes: of a SLURM array times the ranks of its task.
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
      fail(Code::kUsage, "lastframe build: --part is '", printable(arguments.get("--part")),
           "', expected K/N with 0 <= K < N, as 0/4");
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

// A progress bar that begins with the first report, which says how much there is, and may be told
// from several threads.
class Bar {
 public:
  Bar(std::string title, std::string unit) : title_(std::move(title)), unit_(std::move(unit)) {}
  ~Bar() {
    if (progress_) progress_->finish(done_);
  }
  void show(uint64_t done, uint64_t total) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!progress_) progress_.emplace(title_, unit_, total, done);
    done_ = done;
    progress_->show(done);
  }

 private:
  std::string title_, unit_;
  std::mutex mutex_;
  std::optional<Progress> progress_;
  uint64_t done_ = 0;
};

uint64_t quarantined_in(const StoreIndex& index) {
  uint64_t quarantined = 0;
  for (const ShardRecord& record : index.shards()) quarantined += record.quarantined();
  return quarantined;
}

int report_build(const std::string& folder, bool json) {
  const std::shared_ptr<const Store> store = Store::open(folder);
  const StoreIndex& index = store->index();
  uint64_t bytes = 0;
  for (const ShardRecord& record : index.shards()) bytes += record.bytes();
  const uint64_t quarantined = quarantined_in(index);
  if (quarantined > 0) {
    LF_WARN(human_count(quarantined),
            " items of the source could not be used and were left out; "
            "they and the reasons are in ",
            printable(folder), "/quarantine.txt");
  }
  if (!json) {
    return print(str("store ", index.store_id(), " in ", printable(folder), ": ",
                     human_count(store->clips()), " clips of ", index.frames(), " frames in ",
                     human_count(static_cast<uint64_t>(index.shards_size())), " shards, ",
                     human_bytes(bytes), "\n"));
  }
  Json report;
  report.object([&] {
    report.field("store_id", index.store_id());
    report.field("clips", store->clips());
    report.field("shards", index.shards_size());
    report.field("bytes", bytes);
    report.field("quarantined", quarantined);
  });
  return print(report.text() + "\n");
}

int print_plan(const Config& config, const Source& source, bool json) {
  const StoreIndex plan = plan_store(config, source);
  const StorePart& part = plan.parts(0);
  if (!json) {
    return print(str(print_config(config), "\n# ", part.items(), " items, ", part.shards(),
                     " shards of ", part.items_per_shard(), ", store ", plan.store_id(), "\n"));
  }
  Json report;
  report.object([&] {
    report.field("store_id", plan.store_id());
    report.field("items", part.items());
    report.field("shards", part.shards());
    report.key("config").raw(config_json(config));
  });
  return print(report.text() + "\n");
}

// Options of the source given again at repair, where it has moved.
std::unique_ptr<Source> open_moved(const SourceConfig& recorded,
                                   const std::vector<std::string>& sets) {
  Config config;
  *config.mutable_source() = recorded;
  for (const std::string& set : sets) {
    if (!set.starts_with("source.")) {
      fail(Code::kUsage, "lastframe verify: --set ", printable(set),
           ": only the source can be given anew");
    }
    set_option(config, set);
  }
  return open_source(config.source());
}

std::string damage_text(const VerifyReport& report) {
  std::string text;
  for (const Damage& damage : report.damage) {
    text += str(printable(damage.name), ": ", printable(damage.reason, 1000), "\n");
  }
  return text;
}

int report_verify(const std::string& folder, const VerifyReport& report,
                  const std::vector<std::string>& repaired, bool json) {
  if (json) {
    Json out;
    out.object([&] {
      out.field("shards", report.shards);
      out.field("clips", report.clips);
      out.field("bytes", report.bytes);
      out.field("sound", report.damage.empty());
      out.array("damage", [&] {
        for (const Damage& damage : report.damage) {
          out.object([&] {
            out.field("name", damage.name);
            out.field("reason", damage.reason);
          });
        }
      });
      out.field("repaired", repaired);
    });
    print(out.text() + "\n");
  } else if (report.damage.empty()) {
    print(str(printable(folder), " is sound: ", human_count(report.clips), " clips in ",
              human_count(report.shards), " shards, ", human_bytes(report.bytes), "\n"));
  }
  if (report.damage.empty()) return 0;
  std::fputs(damage_text(report).c_str(), stderr);
  fail(Code::kData, "the store ", printable(folder), " is damaged in ", report.damage.size(),
       report.damage.size() == 1 ? " place" : " places", "; run `lastframe verify ",
       printable(folder), " --repair`");
}

void parse_range(const Arguments& arguments, uint64_t* first, uint64_t* last) {
  if (!arguments.has("--range")) return;
  const std::vector<std::string> words = split(arguments.get("--range"), ':');
  if (words.size() != 2 || (!words[0].empty() && !parse(words[0], first)) ||
      (!words[1].empty() && !parse(words[1], last))) {
    fail(Code::kUsage, "lastframe export: --range is '", printable(arguments.get("--range")),
         "', expected FIRST:LAST, as 0:100 (LAST is not included)");
  }
}

}  // namespace

int run_build(const Arguments& arguments) {
  World& world = World::join();
  start_log("lastframe", world.rank());
  std::vector<std::string> sets = arguments.all("--set");
  if (arguments.has("--strict")) sets.emplace_back("store.strict=true");
  BuildRequest request;
  request.config = load_config(arguments.get("--config"), sets);
  const std::unique_ptr<Source> source = open_source(request.config.source());
  const bool json = arguments.has("--json");
  if (arguments.has("--dry-run")) {
    return world.is_root() ? print_plan(request.config, *source, json) : 0;
  }
  request.folder = arguments.required("--out");
  world.agree("config", print_config(request.config) + request.folder);
  const Part part = part_of_array(arguments);
  request.source = source.get();
  request.rank = part.rank * world.size() + world.rank();
  request.size = part.size * world.size();
  request.threads = threads_for(request.config.store().threads(), world.local_size());
  catch_stop_signals();
  set_stop_file(request.folder + "/STOP");

  BuildResult result;
  {
    Bar bar("build", "images");
    if (world.is_root()) {
      request.on_progress = [&](const BuildProgress& progress) {
        bar.show(progress.items, progress.total);
      };
    }
    result = build_store(request);
  }
  world.barrier();
  const bool stopped = world.max(int64_t{result.stopped}) > 0;
  if (!world.is_root()) return 0;
  if (stopped) {
    LF_WARN("stopped by the file ", printable(request.folder),
            "/STOP; remove it and run the same "
            "command again to go on");
    return 0;
  }
  // Whichever rank was the last has written the index, unless a file system showed names late.
  if (!result.complete && !finish_build(real_file_system(), request.folder, request.threads)) {
    LF_INFO("part ", part.rank, " of ", part.size,
            " is done; the last part to finish writes the "
            "index");
    return 0;
  }
  return report_build(request.folder, json);
}

int run_verify(const Arguments& arguments) {
  start_log("lastframe", 0);
  const std::string& folder = arguments.positional()[0];
  const int threads = threads_for(static_cast<int>(arguments.number("--threads", 0, 0, 1024)), 1);
  FileSystem& files = real_file_system();
  const auto look = [&] {
    Bar bar("verify", "shards");
    return verify_store(files, folder, threads,
                        [&](uint64_t done, uint64_t of) { bar.show(done, of); });
  };
  VerifyReport report = look();
  std::vector<std::string> repaired;
  if (!report.damage.empty() && arguments.has("--repair")) {
    std::fputs(damage_text(report).c_str(), stderr);
    repaired = repair_store(files, folder, threads, report, [&](const SourceConfig& recorded) {
      return open_moved(recorded, arguments.all("--set"));
    });
    for (const std::string& line : repaired) std::fputs((printable(line) + "\n").c_str(), stderr);
    report = look();
  }
  return report_verify(folder, report, repaired, arguments.has("--json"));
}

int run_merge(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& out = arguments.positional()[0];
  const std::vector<std::string> folders(arguments.positional().begin() + 1,
                                         arguments.positional().end());
  merge_stores(real_file_system(), out, folders, threads_for(0, 1));
  return report_build(out, arguments.has("--json"));
}

int run_export(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& folder = arguments.positional()[0];
  if (is_run_or_checkpoint(folder)) return export_checkpoint(folder, arguments);
  for (const char* option : {"--out", "--kind", "--ema-width"}) {
    if (arguments.has(option)) {
      fail(Code::kUsage, printable(folder), " is a store; ", option,
           " is for runs and checkpoints, say --npy FILE or --png FOLDER");
    }
  }
  FileSystem& files = real_file_system();
  if (arguments.has("--npy") == arguments.has("--png")) {
    fail(Code::kUsage, "lastframe export: say either --npy FILE or --png FOLDER");
  }
  const std::shared_ptr<const Store> store = Store::open(folder);
  uint64_t first = 0, last = store->clips();
  parse_range(arguments, &first, &last);
  const auto draw = static_cast<uint32_t>(arguments.number("--draw", 0, 0, 1'000'000'000));
  if (arguments.has("--npy")) {
    export_npy(files, *store, arguments.get("--npy"), first, last, draw);
  } else {
    export_png(files, *store, arguments.get("--png"), first, last, draw);
  }
  return 0;
}

}  // namespace lf
