#include "report/report.h"

#include <algorithm>
#include <map>

#include "base/clock.h"
#include "base/text.h"
#include "base/utc.h"
#include "report/board.h"
#include "report/html.h"
#include "report/page.h"
#include "report/run_report.h"
#include "report/sweep_report.h"

namespace lf {
namespace {

constexpr uint64_t kPictureBytes = 8 << 20;  // of a page

void write_footer(Html& html, const std::string& program) {
  html.element("footer", {}, [&] {
    html.element("p", {}, "Written by Last Frame " + program + ", " + utc_text(unix_now()) + ".");
  });
}

// Runs of one config have one name: their folders' names tell which is which.
void tell_apart(std::vector<RunFolder>& runs) {
  std::map<std::string, int> count;
  for (const RunFolder& run : runs) ++count[run.name];
  for (RunFolder& run : runs) {
    if (count[run.name] > 1) {
      run.name = printable(run.folder.substr(run.folder.rfind('/') + 1), 100);
    }
  }
}

}  // namespace

ReportKind report_kind(FileSystem& files, const std::string& path) {
  if (is_sweep(files, path)) return ReportKind::kSweep;
  return is_run_folder(files, path) ? ReportKind::kRun : ReportKind::kNeither;
}

std::string report_page(FileSystem& files, const ReportRequest& request) {
  Html body;
  std::vector<RunFolder> runs;
  std::vector<std::string> names;
  const uint64_t bytes = kPictureBytes / std::max<size_t>(1, request.paths.size());
  for (const std::string& path : request.paths) {
    if (report_kind(files, path) == ReportKind::kSweep) {
      const SweepResults sweep = read_sweep(files, path);
      names.push_back(sweep.name);
      write_sweep(body, files, sweep, bytes);
    } else {
      runs.push_back(read_run(files, path));
      names.push_back(runs.back().name);
    }
  }
  tell_apart(runs);
  if (runs.size() > 1) write_comparison(body, runs);
  for (const RunFolder& run : runs) write_run(body, files, run, bytes);
  write_footer(body, request.program);
  const std::string title = names.size() > 3 ? str(names.size(), " results") : join(names, ", ");
  return page_of(title, body, std::any_of(runs.begin(), runs.end(), [](const RunFolder& run) {
                   return run.running();
                 }));
}

std::string board_page(FileSystem& files, const ReportRequest& request,
                       std::optional<double> target) {
  std::vector<SweepResults> sweeps;
  for (const std::string& path : request.paths) sweeps.push_back(read_sweep(files, path));
  Board board = make_board(sweeps, target);
  for (const SweepResults& sweep : sweeps) {
    for (const std::string& sentence : sweep.missing) {
      board.left_out.push_back(sweep.name + ": " + sentence);
    }
  }
  Html body;
  write_board(body, board);
  const uint64_t bytes = kPictureBytes / std::max<size_t>(1, sweeps.size());
  for (const SweepResults& sweep : sweeps) write_sweep(body, files, sweep, bytes);
  write_footer(body, request.program);
  return page_of("Board of corruptions", body, false);
}

void write_run_report(FileSystem& files, const std::string& run_folder,
                      const std::string& program) {
  publish_file(files, run_folder + "/report.html", report_page(files, {{run_folder}, program}));
}

}  // namespace lf
