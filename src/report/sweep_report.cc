#include "report/sweep_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/text.h"
#include "report/plot.h"
#include "report/scale.h"

namespace lf {
namespace {

constexpr size_t kMostInPlots = 40;  // arms with a series of their own

bool is_finished(const SweepRun& run) { return run.state == "FINISHED"; }

std::string seconds_of(const SweepArm& arm) {
  std::vector<double> seconds;
  for (const SweepRun& run : arm.runs) {
    if (is_finished(run) && run.seconds > 0) seconds.push_back(run.seconds);
  }
  const MeanSpread time = mean_spread(seconds);
  return time.n > 0 ? human_seconds(time.mean) : "";
}

std::string label_of(const SweepMetric& metric) {
  return metric.name + (metric.unit.empty() ? "" : ", " + metric.unit);
}

// ---- words
// ---------------------------------------------------------------------------------------

// "by 0.42 dB of psnr (95 % between 0.31 and 0.53, 3 seeds)".
std::string difference_text(const SweepResults& sweep, const SweepComparison& one) {
  std::string unit;
  for (const SweepMetric& metric : sweep.metrics) {
    if (metric.name == one.metric && !metric.unit.empty()) unit = " " + metric.unit;
  }
  std::string text = str(one.better, " against ", one.than, " by ", one.metric, ": ");
  if (!std::isfinite(one.mean)) return text + "not measured";
  text += str(one.word, ", difference ", short_number(one.mean), unit);
  if (std::isfinite(one.low) && std::isfinite(one.high)) {
    text += str(" (95 % between ", short_number(one.low), " and ", short_number(one.high), ")");
  }
  const auto seeds = static_cast<uint64_t>(std::clamp(one.n, 0.0, 1e6));
  return text + str(", ", seeds, seeds == 1 ? " seed" : " seeds");
}

void write_verdicts(Html& html, const SweepResults& sweep) {
  if (!sweep.question.empty()) html.element("p", of_class("lead"), sweep.question);
  if (sweep.is_short) {
    html.element("aside", of_class("warning"), [&] {
      html.text(str("Its runs are shorter than ", short_number(sweep.minimum_steps),
                    " steps: they show that the sweep works, and decide nothing."));
    });
  }
  if (sweep.verdicts.empty()) return;
  html.element("ul", of_class("verdicts"), [&] {
    for (const SweepVerdict& verdict : sweep.verdicts) {
      html.element("li", {}, [&] {
        const char* tone = verdict.word == "won" ? "good" : verdict.word == "lost" ? "bad" : "note";
        html.text(verdict.question.empty() ? verdict.name : verdict.question).text(" ");
        html.element("b", of_class(tone), verdict.word);
        for (const SweepComparison& one : sweep.comparisons) {
          if (one.verdict != verdict.name) continue;
          html.element("div", of_class("note"), difference_text(sweep, one) + ".");
        }
      });
    }
  });
}

// ---- numbers
// -------------------------------------------------------------------------------------

std::string heading_of(const std::string& name, const std::string& about, const std::string& note) {
  return name + "\n" + about + (note.empty() ? "" : " (" + note + ")");
}

void write_arms(Html& html, const SweepResults& sweep) {
  std::vector<std::string> heads = {"arm"};
  for (const auto& [option, values] : sweep.axes) heads.push_back(option);
  for (const SweepMetric& metric : sweep.metrics) {
    heads.push_back(label_of(metric) + (metric.higher_is_better ? " ↑" : " ↓"));
  }
  heads.insert(heads.end(), {"seeds", "images", "steps", "multiplications", "parameters", "bits",
                             "time of a run"});
  std::vector<std::vector<std::string>> rows;
  for (const SweepArm& arm : sweep.arms) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {heading_of(arm.name, arm.about, arm.note)};
    for (const auto& [option, values] : sweep.axes) row.push_back(arm.value_at_axis(option));
    for (const SweepMetric& metric : sweep.metrics) row.push_back(mean_text(arm.of(metric.name)));
    const auto finished = std::count_if(arm.runs.begin(), arm.runs.end(), is_finished);
    row.push_back(str(finished, " of ", arm.runs.size()));
    row.insert(row.end(), {whole_number(arm.images), whole_number(arm.steps),
                           arm.multiplications > 0 ? compact_number(arm.multiplications) : "",
                           whole_number(arm.parameters), whole_number(arm.bits), seconds_of(arm)});
  }
  for (const SweepAnchor& anchor : sweep.anchors) {
    std::vector<std::string> row(heads.size());
    row[0] = heading_of(anchor.name, "without training, for comparison", "");
    for (size_t m = 0; m < sweep.metrics.size(); ++m) {
      if (sweep.metrics[m].name == anchor.metric) {
        row[1 + sweep.axes.size() + m] = short_number(anchor.value);
      }
    }
    rows.push_back(std::move(row));
  }
  write_section(html, "Arms", [&] {
    html.element("p", of_class("note"),
                 "Means over seeds, ± their standard deviation. ↑ more is better, ↓ less is. "
                 "Multiplications are those to learn from one image.");
    write_table(html, heads, rows);
  });
}

// ---- plots
// ---------------------------------------------------------------------------------------

// Whether the arithmetic of every arm with a value is known; else images are what arms cost.
bool has_compute(const SweepResults& sweep, const SweepMetric& metric) {
  return std::all_of(sweep.arms.begin(), sweep.arms.end(), [&](const SweepArm& arm) {
    return arm.compute() > 0 || arm.of(metric.name).n == 0;
  });
}

Plot plot_against_compute(const SweepResults& sweep, const SweepMetric& metric) {
  const bool compute = has_compute(sweep, metric);
  Plot plot;
  plot.title = label_of(metric) + " against " + (compute ? "compute" : "images");
  plot.x = compute ? "multiplications in training" : "images";
  std::vector<CostPoint> costs;
  Series arms{.name = "arms", .points = {}, .colour = 0, .style = Series::Style::kDots};
  for (const SweepArm& arm : sweep.arms) {
    const MeanSpread value = arm.of(metric.name);
    if (value.n == 0) continue;
    costs.push_back({compute ? arm.compute() : arm.images, value.mean});
    arms.points.push_back({costs.back().cost, value.mean, value.spread, arm.name});
  }
  Series best{.name = "frontier", .points = {}, .colour = 1, .style = Series::Style::kDashes};
  for (const size_t i : frontier(costs, metric.higher_is_better)) {
    best.points.push_back({costs[i].cost, costs[i].value, 0, arms.points[i].name});
  }
  double low = HUGE_VAL, high = 0;
  for (const CostPoint& point : costs) {
    low = std::min(low, point.cost);
    high = std::max(high, point.cost);
  }
  plot.log_x = low > 0 && high > 4 * low;
  if (best.points.size() > 1) {
    std::vector<std::string> names;
    for (const PlotPoint& point : best.points) names.push_back(point.name);
    if (names.size() <= 8) plot.note = "On the frontier: " + join(names, ", ") + ".";
  }
  for (PlotPoint& point : best.points) point.name.clear();
  plot.series = {std::move(best), std::move(arms)};
  return plot;
}

// Bars where all arms have spent as much: there is no frontier then.
void draw_against_compute(Html& html, const Plot& plot, const std::string& metric) {
  const std::vector<PlotPoint>& arms = plot.series.back().points;
  double low = HUGE_VAL, high = 0;
  for (const PlotPoint& arm : arms) {
    low = std::min(low, arm.x);
    high = std::max(high, arm.x);
  }
  if (arms.size() < 2 || high > 1.02 * low) {
    draw_plot(html, plot);
    return;
  }
  std::vector<Bar> bars;
  for (const PlotPoint& arm : arms) {
    std::string text = short_number(arm.y);
    if (arm.spread > 0) text += " ± " + short_number(arm.spread);
    bars.push_back({arm.name, arm.y, text});
  }
  draw_bars(html, metric + " at equal cost", bars);
}

// One curve for all arms that differ only in this axis.
std::vector<Plot> plots_along(const SweepResults& sweep, const std::string& option,
                              const SweepMetric& metric) {
  struct Step {
    CostPoint point;
    double spread;
  };
  std::map<std::string, std::vector<Step>> lines;
  for (const SweepArm& arm : sweep.arms) {
    double x = 0;
    const MeanSpread value = arm.of(metric.name);
    if (value.n == 0 || !parse(arm.value_at_axis(option), &x)) continue;
    std::vector<std::string> others;
    for (const auto& [other, at] : arm.at) {
      if (other != option) others.push_back(other + " " + at);
    }
    lines[join(others, ", ")].push_back({{x, value.mean}, value.spread});
  }
  Plot plot;
  plot.title = label_of(metric) + " along " + option;
  plot.x = option;
  double low = HUGE_VAL, high = 0;
  for (auto& [name, steps] : lines) {
    std::stable_sort(steps.begin(), steps.end(),
                     [](const Step& a, const Step& b) { return a.point.cost < b.point.cost; });
    Series& series = plot.series.emplace_back();
    series.name = name.empty() ? metric.name : name;
    std::vector<CostPoint> curve;
    for (const Step& step : steps) {
      curve.push_back(step.point);
      low = std::min(low, step.point.cost);
      high = std::max(high, step.point.cost);
      series.points.push_back({step.point.cost, step.point.value, step.spread, ""});
    }
    if (const auto at = knee(curve, metric.higher_is_better)) {
      plot.note += str(plot.note.empty() ? "" : " ", name.empty() ? "" : name + ": ",
                       "The knee is at ", short_number(curve[*at].cost),
                       ": beyond it, a step along the axis brings less than before.");
      series.points[*at].name = "knee: " + short_number(curve[*at].cost);
    }
  }
  plot.log_x = low > 0 && high > 6 * low;
  if (low >= high) return {};
  return {plot};
}

// By metric: every seed's curve of an arm has the arm's colour.
Plot learning_plot(const SweepResults& sweep, const SweepMetric& metric) {
  Plot plot;
  plot.title = label_of(metric) + " while learning";
  plot.x = "images";
  plot.x_from_zero = true;
  for (size_t a = 0; a < sweep.arms.size(); ++a) {
    if (plot.series.size() >= kMostInPlots) {
      plot.note = str("The first ", kMostInPlots, " arms of ", sweep.arms.size(), ".");
      break;
    }
    Series series{.name = sweep.arms[a].name, .points = {}, .colour = static_cast<int>(a)};
    for (const CostPoint& point : sweep.arms[a].mean_curve(metric.name)) {
      series.points.push_back({point.cost, point.value, 0, ""});
    }
    if (!series.points.empty()) plot.series.push_back(std::move(series));
  }
  return plot;
}

void write_plots(Html& html, const SweepResults& sweep) {
  std::vector<Plot> cost, axes, learning;
  for (const SweepMetric& metric : sweep.metrics) {
    cost.push_back(plot_against_compute(sweep, metric));
    for (const auto& [option, values] : sweep.axes) {
      for (Plot& plot : plots_along(sweep, option, metric)) axes.push_back(std::move(plot));
    }
    learning.push_back(learning_plot(sweep, metric));
  }
  for (const auto& [heading, of_kind] :
       {std::pair{"Quality against cost", &cost}, std::pair{"Along the axes", &axes},
        std::pair{"Learning curves", &learning}}) {
    const std::vector<Plot>* plots = of_kind;  // a lambda holds no binding
    if (std::none_of(plots->begin(), plots->end(), has_points)) continue;
    write_section(html, heading, [&] {
      html.element("div", of_class("plots"), [&] {
        for (size_t i = 0; i < plots->size(); ++i) {
          if (plots == &cost) {
            draw_against_compute(html, (*plots)[i], label_of(sweep.metrics[i]));
          } else {
            draw_plot(html, (*plots)[i]);
          }
        }
        if (plots == &cost) {
          std::vector<Bar> bars;
          for (const SweepArm& arm : sweep.arms) {
            if (bars.size() >= kMostInPlots || arm.multiplications <= 0) continue;
            bars.push_back({arm.name, arm.multiplications, compact_number(arm.multiplications)});
          }
          draw_bars(html, "Multiplications to learn from one image", bars);
        }
      });
    });
  }
}

// ---- the rest
// ------------------------------------------------------------------------------------

void write_seeds(Html& html, const SweepResults& sweep) {
  constexpr size_t kMostRows = 600;
  std::vector<std::string> heads = {"arm", "seed", "state", "time"};
  for (const SweepMetric& metric : sweep.metrics) heads.push_back(label_of(metric));
  heads.emplace_back("error");
  std::vector<std::vector<std::string>> rows;
  for (const SweepArm& arm : sweep.arms) {
    for (const SweepRun& run : arm.runs) {
      if (rows.size() >= kMostRows) break;
      std::vector<std::string>& row = rows.emplace_back();
      row = {arm.name, short_number(run.seed), run.state,
             run.seconds > 0 ? human_seconds(run.seconds) : ""};
      for (const SweepMetric& metric : sweep.metrics) {
        const double* value = by_name(run.values, metric.name);
        row.push_back(value == nullptr ? "" : short_number(*value));
      }
      row.push_back(run.error);
    }
  }
  write_section(html, "How it was measured", [&] {
    std::vector<std::vector<std::string>> metrics;
    for (const SweepMetric& m : sweep.metrics) {
      metrics.push_back({m.name, m.higher_is_better ? "more" : "less", whole_number(m.samples),
                         m.extractor, m.reference});
    }
    write_table(
        html, {"metric", "better is", "samples", "hash of the extractor", "hash of the reference"},
        metrics);
    write_facts(html, {{"made equal", sweep.equal},
                       {"program", sweep.program},
                       {"folder", printable(sweep.folder, 300)}});
    write_details(html, "Every run", [&] { write_table(html, heads, rows); });
    std::vector<std::vector<std::string>> sets;
    for (const SweepArm& arm : sweep.arms) {
      if (!arm.sets.empty() && sets.size() < kMostRows) {
        sets.push_back({arm.name, join(arm.sets, "  ")});
      }
    }
    if (sets.empty()) return;
    write_details(html, "What each arm sets", [&] { write_table(html, {"arm", "options"}, sets); });
  });
}

}  // namespace

std::string mean_text(const MeanSpread& value) {
  if (value.n == 0) return "";
  if (value.n == 1) return short_number(value.mean) + " (one seed)";
  return with_spread(value.mean, value.spread);
}

void write_sweep(Html& html, FileSystem& files, const SweepResults& sweep, uint64_t picture_bytes) {
  html.element("article", {}, [&] {
    html.element("header", {}, [&] {
      html.element("p", of_class("kind"), "Sweep");
      html.element("h1", {}, [&] {
        html.text(sweep.name).text(" ");
        const bool open = !sweep.unfinished.empty();
        html.element("span", of_class(open ? "state live" : "state good"),
                     open ? str(sweep.unfinished.size(), " not finished") : "finished");
      });
    });
    write_verdicts(html, sweep);
    write_arms(html, sweep);
    std::vector<std::string> missing = sweep.missing;
    write_strips(html, files, sweep, picture_bytes, missing);
    write_plots(html, sweep);
    write_seeds(html, sweep);
    if (!sweep.unfinished.empty())
      missing.push_back("Not finished: " + join(sweep.unfinished, ", ") + ".");
    if (missing.empty()) return;
    html.element("aside", of_class("missing"), [&] {
      html.element("b", {}, "Missing or unreadable");
      html.element("ul", {}, [&] {
        for (const std::string& sentence : missing) html.element("li", {}, sentence);
      });
    });
  });
}

}  // namespace lf
