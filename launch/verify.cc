// `lastframe verify`: checks every byte of a store, and repairs it. Both are data/store's.
#include "data/store/verify.h"

#include <memory>
#include <string>
#include <vector>

#include "base/console.h"
#include "base/error.h"
#include "base/host.h"
#include "base/json.h"
#include "base/log.h"
#include "config/config.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/store_tasks.h"

namespace lf {
namespace {

// The recorded source under options that --set overrides, for one that has moved.
std::unique_ptr<Source> open_moved(const SourceConfig& recorded,
                                   const std::vector<std::string>& sets) {
  Config config;
  *config.mutable_source() = recorded;
  set_options(config, sets);
  return open_source(config.source());
}

void print_damage(const VerifyReport& report) {
  for (const Damage& damage : report.damage) {
    console_line(str(printable(damage.name), ": ", printable(damage.reason, 1000)));
  }
}

void report_verify(const std::string& folder, const VerifyReport& report,
                   const std::vector<std::string>& repaired, bool as_json) {
  if (as_json) {
    Json out;
    out.object([&] {
      out.field("shards", report.shards);
      out.field("clips", report.clips);
      out.field("bytes", report.bytes);
      out.field("sound", report.damage.empty());  // scripts read this name
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
    print(str(printable(folder), " is valid: ", human_count(report.clips), " clips in ",
              human_count(report.shards), " shards, ", human_bytes(report.bytes), "\n"));
  }
  if (report.damage.empty()) return;
  print_damage(report);
  fail(Code::kData, "the store ", printable(folder), " is damaged in ", report.damage.size(),
       report.damage.size() == 1 ? " place" : " places", "; run `lastframe verify ",
       printable(folder), " --repair`");
}

int run_verify(const Arguments& arguments) {
  start_log("lastframe", 0);
  const std::string& folder = arguments.positional()[0];
  const int threads = threads_for(static_cast<int>(arguments.integer("--threads", 0)), 1);
  FileSystem& files = real_file_system();
  const auto check = [&] {
    ReportedProgress progress("verify", "shards");
    return verify_store(files, folder, threads,
                        [&](uint64_t done, uint64_t of) { progress.show(done, of); });
  };
  VerifyReport report = check();
  std::vector<std::string> repaired;
  if (!report.damage.empty() && arguments.has("--repair")) {
    print_damage(report);
    repaired = repair_store(files, folder, threads, report, [&](const SourceConfig& recorded) {
      return open_moved(recorded, arguments.sets());
    });
    for (const std::string& line : repaired) console_line(printable(line));
    report = check();
  }
  report_verify(folder, report, repaired, arguments.has("--json"));
  return 0;
}

constexpr Option kVerifyOptions[] = {
    {"--repair", kNoValue,
     "rebuild damaged shards from their source, and the index from the shards"},
    {"--set",
     sets("source"),
     "override one option of the recorded source, such as source.folder.path=DIR; repeatable",
     {.only_with = "--repair"}},
    {"--threads", integer(0, 1024), "shards checked at a time", {.computed = "one for each core"}},
    kJsonOption,
};

}  // namespace

const Command kVerifyCommand = {
    .name = "verify",
    .positional = "STORE",
    .summary = "checks every byte of a store, and repairs it",
    .details =
        "Names each missing, extra, swapped, renamed or truncated shard and each flipped bit on "
        "stderr; the status is then 3. A repaired store has the bytes it was built with.",
    .example = "lastframe verify stores/cifar10\nlastframe verify stores/cifar10 --repair",
    .options = kVerifyOptions,
    .run = run_verify,
};

}  // namespace lf
