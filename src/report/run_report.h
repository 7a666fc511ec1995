// The part of a page that shows runs: where each stands, what it makes, its curves and
// measurements, what it was trained on and by which options. Several runs share their plots.
#pragma once

#include <vector>

#include "report/html.h"
#include "report/plot.h"
#include "report/run_folder.h"

namespace lf {

// At most `picture_bytes` of pictures for each run.
void write_run(Html& html, FileSystem& files, const RunFolder& run, uint64_t picture_bytes);

// Their curves in the same plots, and in which options they differ.
void write_comparison(Html& html, const std::vector<RunFolder>& runs);

// Of all the runs in the same plots, against images or against training time.
std::vector<Plot> plots_of_runs(const std::vector<const RunFolder*>& runs, bool by_time);

// What a reader should know before trusting a run's numbers, a sentence each.
std::vector<std::string> warnings_of(const RunFolder& run);

}  // namespace lf
