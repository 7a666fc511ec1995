// `lastframe merge`: joins stores of one recipe and shape. Joining is data/store's.
#include "data/store/merge.h"

#include <string>
#include <vector>

#include "base/file.h"
#include "base/host.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/store_tasks.h"

namespace lf {
namespace {

int run_merge(const Arguments& arguments) {
  start_log("lastframe", 0);
  catch_stop_signals();
  const std::string& out = arguments.positional()[0];
  const std::vector<std::string> folders(arguments.positional().begin() + 1,
                                         arguments.positional().end());
  merge_stores(real_file_system(), out, folders, threads_for(0, 1));
  report_store(out, arguments.has("--json"));
  return 0;
}

constexpr Option kMergeOptions[] = {kJsonOption};
constexpr Hint kMergeHints[] = {
    {"--out", "the new store is the first argument: lastframe merge OUT STORE..."}};

}  // namespace

const Command kMergeCommand = {
    .name = "merge",
    .positional = "OUT STORE...",
    .summary = "joins stores of one recipe and shape into a new one",
    .details = "Copies the shards unchanged, store after store; the given stores stay as they are.",
    .example = "lastframe merge stores/all stores/part-one stores/part-two",
    .options = kMergeOptions,
    .run = run_merge,
    .hints = kMergeHints,
};

}  // namespace lf
