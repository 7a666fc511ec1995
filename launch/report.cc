// `lastframe report`: one page of HTML on runs and sweeps.
#include "report/report.h"

#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/version.h"

namespace lf {
namespace {

void check_paths(const Arguments& arguments, FileSystem& files) {
  const bool board = arguments.has("--board");
  for (const std::string& path : arguments.positional()) {
    const ReportKind kind = report_kind(files, path);
    if (kind == ReportKind::kSweep || (kind == ReportKind::kRun && !board)) continue;
    const char* expected = board ? "; --board expects folders of sweeps, with results.json"
                                 : "; expected the folder of a run, with metrics.jsonl, or of a "
                                   "sweep, with results.json";
    arguments.refuse(printable(path),
                     !files.exists(path)        ? " is not there"
                     : kind == ReportKind::kRun ? " is a run"
                                                : " is neither a run nor a sweep",
                     expected);
  }
}

int run_report(const Arguments& arguments) {
  start_log("lastframe", 0);
  FileSystem& files = real_file_system();
  check_paths(arguments, files);
  const std::string out = arguments.get("--out");
  const ReportRequest request{arguments.positional(), version()};
  std::optional<double> target;
  if (arguments.has("--target")) target = arguments.number("--target");
  const std::string page =
      arguments.has("--board") ? board_page(files, request, target) : report_page(files, request);
  publish_file(files, out, page);
  log_written(out, human_bytes(page.size()));
  return 0;
}

constexpr Option kReportOptions[] = {
    {"--out", output("FILE", ".html"), "the page to write", {.required = ""}},
    {"--board", kNoValue,
     "rank the arms of sweeps by the compute that each needs to reach a target, and by what they "
     "reach at equal compute"},
    {"--target",
     number(0, 1e30),
     "the value of the sweep's first distance to be reached",
     {.computed = "what the plain image reaches at its end", .only_with = "--board"}},
};

}  // namespace

const Command kReportCommand = {
    .name = "report",
    .positional = "PATH...",
    .summary = "writes one page of HTML on runs and sweeps, for people",
    .details =
        "A PATH is the folder of a run or of a sweep. The page is one file that opens offline, on "
        "a phone too, and prints: curves, pictures, measurements with where they come from, "
        "options, data and machine; several runs share their plots. Of a sweep: the answer in "
        "words, the arms with their spread, quality against compute with its frontier, and the "
        "same held-out images through every arm. What is missing or damaged in a folder is said "
        "in the page. A run that is being trained keeps RUN/report.html up to date by itself.",
    .example =
        "lastframe report runs/first --out first.html\n"
        "lastframe report runs/cvivit runs/fdm --out both.html\n"
        "lastframe report --board sweeps/board --out board.html",
    .options = kReportOptions,
    .run = run_report,
};

}  // namespace lf
