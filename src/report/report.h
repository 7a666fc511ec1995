// Reports: what folders of runs and sweeps tell, as one self-contained HTML page for people.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/file.h"

namespace lf {

enum class ReportKind { kNeither, kRun, kSweep };
// A run's folder, a sweep's folder or its results.json.
ReportKind report_kind(FileSystem& files, const std::string& path);

struct ReportRequest {
  std::vector<std::string> paths;  // of runs and sweeps
  std::string program;             // the version that writes
};

// The page. What is missing or damaged in the folders is said in it.
std::string report_page(FileSystem& files, const ReportRequest& request);

// The page of the board of sweeps, to `target` or to what the plain image reaches.
std::string board_page(FileSystem& files, const ReportRequest& request,
                       std::optional<double> target);

// Writes RUN/report.html, by rename. Only reads what the run has written.
void write_run_report(FileSystem& files, const std::string& run_folder, const std::string& program);

}  // namespace lf
