#include "report/board.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "report/plot.h"
#include "report/scale.h"
#include "report/sweep_report.h"

namespace lf {
namespace {

const SweepMetric* metric_of(const std::vector<SweepResults>& sweeps) {
  const SweepMetric* first = nullptr;
  for (const SweepResults& sweep : sweeps) {
    for (const SweepMetric& metric : sweep.metrics) {
      if (!metric.higher_is_better) return &metric;
      if (first == nullptr) first = &metric;
    }
  }
  return first;
}

// Of one seed: value over compute. Its last point is the run's result.
std::vector<CostPoint> curve_over_compute(const SweepArm& arm, const SweepRun& run,
                                          const std::string& metric) {
  std::vector<CostPoint> curve;
  if (const auto* points = by_name(run.curves, metric); points != nullptr) curve = *points;
  const double* value = by_name(run.values, metric);
  if (value != nullptr && (curve.empty() || curve.back().cost < arm.images)) {
    curve.push_back({arm.images, *value});
  }
  for (CostPoint& point : curve) point.cost *= arm.multiplications;
  return curve;
}

// An arm that learns from the image alone.
bool is_plain(const SweepArm& arm) {
  if (arm.value_at_axis("recipe.frames") == "1") return true;
  if (std::find(arm.sets.begin(), arm.sets.end(), "recipe.frames=1") != arm.sets.end()) return true;
  return arm.name == "plain" || arm.name == "image";
}

// The target of a board that is given none, and what it is.
void choose_target(const std::vector<SweepResults>& sweeps, Board& board) {
  std::vector<double> ends;
  for (const SweepResults& sweep : sweeps) {
    for (const SweepArm& arm : sweep.arms) {
      const MeanSpread end = arm.of(board.metric.name);
      if (end.n == 0) continue;
      if (is_plain(arm)) {
        board.target = end.mean;
        board.target_is = "what the plain image (" + arm.name + ") reaches at its end";
        return;
      }
      ends.push_back(end.mean);
    }
  }
  std::sort(ends.begin(), ends.end());
  if (!ends.empty()) board.target = ends[ends.size() / 2];
  board.target_is = "the middle of the arms' ends, as no arm is of the plain image";
}

BoardRow row_of(const SweepResults& sweep, const SweepArm& arm, const Board& board) {
  BoardRow row;
  row.sweep = sweep.name;
  row.arm = arm.name;
  row.about = arm.about;
  row.options = join(arm.sets, "  ");
  for (const auto& [option, value] : arm.at) {
    if (std::find(arm.sets.begin(), arm.sets.end(), option + "=" + value) != arm.sets.end())
      continue;
    row.options += (row.options.empty() ? "" : "  ") + option + "=" + value;
  }
  row.spent = arm.compute();
  row.end = arm.of(board.metric.name);
  std::vector<double> costs, values;
  for (const SweepRun& run : arm.runs) {
    const std::vector<CostPoint> curve = curve_over_compute(arm, run, board.metric.name);
    if (curve.empty()) continue;
    ++row.seeds;
    if (const auto cost = cost_to_reach(curve, board.target, board.metric.higher_is_better)) {
      costs.push_back(*cost);
      row.at_first = row.at_first || *cost <= curve.front().cost;
    }
    if (const auto value = value_at(curve, board.equal_compute)) values.push_back(*value);
  }
  row.reached = costs.size();
  row.compute = mean_spread(costs);
  if (values.size() == row.seeds) row.at_equal = mean_spread(values);
  return row;
}

// The least of what the runs have spent, if all are measured from before it on.
double equal_compute_of(const std::vector<SweepResults>& sweeps, const std::string& metric) {
  double least = HUGE_VAL;
  for (const SweepResults& sweep : sweeps) {
    for (const SweepArm& arm : sweep.arms) {
      for (const SweepRun& run : arm.runs) {
        const std::vector<CostPoint> curve = curve_over_compute(arm, run, metric);
        if (!curve.empty() && curve.back().cost > 0) least = std::min(least, curve.back().cost);
      }
    }
  }
  return std::isfinite(least) ? least : 0;
}

std::string compute_text(const BoardRow& row) {
  if (row.reached == 0) return "never reaches it";
  std::string text = (row.at_first ? "≤ " : "") + compact_number(row.compute.mean);
  if (row.compute.n > 1) text += " ± " + compact_number(row.compute.spread);
  if (row.reached < row.seeds) text += str(", ", row.reached, " of ", row.seeds, " seeds");
  return text;
}

}  // namespace

Board make_board(const std::vector<SweepResults>& sweeps, std::optional<double> target) {
  Board board;
  const SweepMetric* metric = metric_of(sweeps);
  if (metric == nullptr) {
    board.left_out.emplace_back("No sweep has a metric.");
    return board;
  }
  board.metric = *metric;
  std::set<std::string> hashes;
  for (const SweepResults& sweep : sweeps) {
    for (const SweepMetric& one : sweep.metrics) {
      if (one.name == metric->name) hashes.insert(one.extractor + " " + one.reference);
    }
  }
  if (hashes.size() > 1) {
    board.left_out.push_back("The sweeps measure " + metric->name +
                             " by different extractors or references: their rows do not compare.");
  }
  if (target) {
    board.target = *target;
    board.target_is = "as given";
  } else {
    choose_target(sweeps, board);
  }
  board.equal_compute = equal_compute_of(sweeps, metric->name);
  for (const SweepResults& sweep : sweeps) {
    for (const SweepArm& arm : sweep.arms) {
      BoardRow row = row_of(sweep, arm, board);
      if (row.seeds == 0 || arm.multiplications <= 0) {
        board.left_out.push_back(arm.name + " of " + sweep.name +
                                 (row.seeds == 0 ? " has no value yet." : " has no known cost."));
        continue;
      }
      board.rows.push_back(std::move(row));
    }
  }
  const bool higher = board.metric.higher_is_better;
  std::stable_sort(board.rows.begin(), board.rows.end(), [&](const BoardRow& a, const BoardRow& b) {
    const bool all_a = a.reached == a.seeds, all_b = b.reached == b.seeds;
    if (all_a != all_b) return all_a;
    if (all_a) return a.compute.mean < b.compute.mean;
    return higher ? a.end.mean > b.end.mean : a.end.mean < b.end.mean;
  });
  return board;
}

void write_board(Html& html, const Board& board) {
  const std::string metric =
      board.metric.name + (board.metric.unit.empty() ? "" : ", " + board.metric.unit);
  const bool several = std::any_of(board.rows.begin(), board.rows.end(), [&](const BoardRow& row) {
    return row.sweep != board.rows.front().sweep;
  });
  html.element("article", {}, [&] {
    html.element("header", {}, [&] {
      html.element("p", of_class("kind"), "Board");
      html.element("h1", {}, "Corruptions, by the compute they need");
    });
    html.element("p", of_class("lead"),
                 str("The target is ", metric, " ", board.metric.higher_is_better ? "≥" : "≤", " ",
                     short_number(board.target), ", ", board.target_is, "."));
    html.element("p", of_class("note"),
                 "Compute is counted in multiplications, those to learn from one image times the "
                 "images trained on; between two measurements the curve is taken as straight, and "
                 "\u2264 says that the first "
                 "measurement was as good already. Arms "
                 "of which every seed reaches the target come first.");
    std::vector<std::vector<std::string>> rows;
    std::vector<Bar> bars;
    Plot equal;
    equal.title = metric + " at the end";
    equal.x = "multiplications";
    for (size_t r = 0; r < board.rows.size(); ++r) {
      const BoardRow& row = board.rows[r];
      const bool reaches = row.reached == row.seeds;
      const std::string name = several ? row.sweep + ": " + row.arm : row.arm;
      rows.push_back({name + "\n" + row.about, reaches ? str(r + 1) : "–", compute_text(row),
                      row.at_equal.n > 0 ? mean_text(row.at_equal) : "not measured",
                      mean_text(row.end), compact_number(row.spent), str(row.seeds), row.options});
      if (row.reached > 0) bars.push_back({name, row.compute.mean, compute_text(row)});
      Series& series = equal.series.emplace_back();
      series = {
          .name = name, .points = {}, .colour = static_cast<int>(r), .style = Series::Style::kDots};
      series.points.push_back({row.spent, row.end.mean, row.end.spread, name});
    }
    write_section(html, "Ranking", [&] {
      write_table(html,
                  {"corruption", "rank", "compute to the target",
                   board.equal_compute > 0 ? metric + " at " + compact_number(board.equal_compute)
                                           : metric + " at equal compute",
                   metric + " at its end", "compute spent", "seeds", "options"},
                  rows);
    });
    write_section(html, "Beside each other", [&] {
      html.element("div", of_class("plots"), [&] {
        draw_bars(html, "Multiplications to the target", bars);
        draw_plot(html, equal);
      });
    });
    if (board.left_out.empty()) return;
    html.element("aside", of_class("missing"), [&] {
      html.element("b", {}, "Left out or in doubt");
      html.element("ul", {}, [&] {
        for (const std::string& sentence : board.left_out) html.element("li", {}, sentence);
      });
    });
  });
}

}  // namespace lf
