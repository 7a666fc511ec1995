// The board: which corruption reaches a target with the least compute, and which is best at equal
// compute, over one or several sweeps.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/html.h"
#include "report/sweep_results.h"

namespace lf {

struct BoardRow {
  std::string sweep, arm, about, options;
  size_t seeds = 0, reached = 0;  // with a curve; of those, at the target
  bool at_first = false;          // a seed is there by its first measurement
  MeanSpread compute;             // to the target, of the seeds that reach it
  MeanSpread at_equal;            // value at the board's equal compute
  MeanSpread end;                 // value at the arm's own end
  double spent = 0;               // compute at its end
};

struct Board {
  SweepMetric metric;
  double target = 0;
  std::string target_is;       // "what A reaches at its end", or "as given"
  double equal_compute = 0;    // the largest at which every arm is measured; 0: there is none
  std::vector<BoardRow> rows;  // those that reach the target first, by compute, then by their end
  std::vector<std::string> left_out;  // sentences
};

// By the sweeps' first metric of which less is better, or else their first. Without a target: what
// the plain image (recipe.frames 1) reaches at its end, the mean over seeds.
Board make_board(const std::vector<SweepResults>& sweeps, std::optional<double> target);

void write_board(Html& html, const Board& board);

}  // namespace lf
