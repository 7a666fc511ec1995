// The part of a page that shows a sweep: its question and answer in words first, then the arms'
// numbers, quality against cost, learning curves, and the same held-out images through every arm.
#pragma once

#include <cstdint>

#include "report/html.h"
#include "report/sweep_results.h"

namespace lf {

void write_sweep(Html& html, FileSystem& files, const SweepResults& sweep, uint64_t picture_bytes);

// Same clips, a row for each arm. What cannot be shown becomes a sentence in `missing`.
void write_strips(Html& html, FileSystem& files, const SweepResults& sweep, uint64_t picture_bytes,
                  std::vector<std::string>& missing);

// "29.1 ± 0.2", "29.1 of one seed", "".
std::string mean_text(const MeanSpread& value);

}  // namespace lf
