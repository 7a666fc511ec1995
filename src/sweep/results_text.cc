// The table of a sweep for people, in Markdown.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/json.h"
#include "base/text.h"
#include "sweep/results.h"

namespace lf {
namespace {

std::string digits(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

// As many decimals as tell the values of a column apart: two for dB, four significant digits else.
int decimals_of(const MeasurePlan& measure, double value) {
  if (measure.unit == "dB") return 2;
  const double size = std::max(std::fabs(value), 1e-6);
  return std::clamp(3 - static_cast<int>(std::floor(std::log10(size))), 0, 6);
}

std::string with_spread(const MeasurePlan& measure, const std::map<int, double>& values) {
  std::vector<double> list;
  for (const auto& [seed, value] : values) list.push_back(value);
  if (list.empty()) return "-";
  const double mean = mean_of(list);
  const int decimals = decimals_of(measure, mean);
  const std::optional<double> spread = spread_of(list);
  return digits(mean, decimals) + (spread ? " ± " + digits(*spread, decimals) : "");
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return value > 0 ? text : "-";
}

double seconds_of(const ArmResult& arm) {
  std::vector<double> list;
  for (const ArmRun& run : arm.runs) {
    double seconds = 0;
    if (parse(json_member(run.row.json, "seconds"), &seconds)) list.push_back(seconds);
  }
  return list.empty() ? 0 : mean_of(list);
}

std::string row_of(const std::vector<std::string>& cells) {
  return "| " + join(cells, " | ") + " |\n";
}

std::string table_of(const SweepPlan& plan, const Results& results) {
  const bool bits = std::any_of(results.arms.begin(), results.arms.end(),
                                [](const ArmResult& arm) { return arm.bits > 0; });
  std::vector<std::string> head = {"arm", "images", "steps"}, line = {"---", "---:", "---:"};
  const auto column = [&](const std::string& name) {
    head.push_back(name);
    line.emplace_back("---:");
  };
  if (bits) column("bits");
  for (const char* name : {"parameters", "multiplications", "seconds"}) column(name);
  for (const MeasurePlan& measure : plan.measures)
    column(measure.name + (measure.unit.empty() ? "" : ", " + measure.unit));
  column("n");
  head.emplace_back("");
  line.emplace_back("---");
  std::string text = row_of(head) + row_of(line);
  for (const ArmResult& arm : results.arms) {
    const ArmPlan& told = plan.arms[arm.arm];
    const auto n = std::count_if(arm.runs.begin(), arm.runs.end(), [](const ArmRun& run) {
      return run.state == ArmRun::State::kFinished;
    });
    if (n == 0) continue;
    std::vector<std::string> cells = {told.name, std::to_string(told.images),
                                      std::to_string(told.steps())};
    if (bits) cells.push_back(arm.bits > 0 ? digits(arm.bits, 0) : "-");
    cells.push_back(digits(arm.parameters, 0));
    cells.push_back(short_number(arm.multiplications));
    cells.push_back(digits(seconds_of(arm), 0));
    for (const MeasurePlan& measure : plan.measures) {
      const auto values = arm.values.find(measure.name);
      cells.push_back(values == arm.values.end() ? "-" : with_spread(measure, values->second));
    }
    cells.push_back(std::to_string(n));
    cells.push_back(arm.note);
    text += row_of(cells);
  }
  return text;
}

std::string comparison_text(const SweepPlan& plan, const ComparisonResult& one) {
  const auto measure = std::find_if(plan.measures.begin(), plan.measures.end(),
                                    [&](const MeasurePlan& m) { return m.name == one.metric; });
  std::string text = one.better + " against " + one.than + " ";
  if (!one.paired.mean) return text + "not measured";
  const int decimals = decimals_of(*measure, *one.paired.mean);
  const auto number = [&](double value) {
    return (value >= 0 ? "+" : "") + digits(value, decimals);
  };
  text += str(name_of(one.paired.word), " by ", number(*one.paired.mean));
  if (one.paired.low)
    text += str(" [", number(*one.paired.low), ", ", number(*one.paired.high), "]");
  return text + str(", n ", one.paired.n);
}

}  // namespace

std::string results_text(const SweepPlan& plan, const Results& results, bool short_sweep) {
  const bool samples = plan.sweep.subject() == Sweep::SAMPLES;
  std::string text = str(plan.sweep.name(), ": ", plan.sweep.question(), "\n\n",
                         samples ? "Samples" : "Reconstructions of held-out images",
                         ", mean ± deviation over n seeds. Multiplications: to learn from an "
                         "image; seconds: of training.\n\n",
                         table_of(plan, results));
  std::vector<std::string> anchors;
  for (const AnchorResult& anchor : results.anchors)
    anchors.push_back(str(anchor.name, " ", digits(anchor.value, 2), " (", anchor.metric, ")"));
  if (!anchors.empty()) text += "\nAnchors, which need no learning: " + join(anchors, ", ") + ".\n";
  if (!results.unfinished.empty())
    text += "\nUnfinished: " + join(results.unfinished, "; ") + ".\n";
  if (short_sweep && !plan.sweep.verdict().empty()) text += "\nNo verdict: --allow-short.\n";
  for (const VerdictResult& verdict : results.verdicts) {
    text += str("\n**", verdict.name, "** (", verdict.question, "): **", name_of(verdict.word),
                "**\n\n");
    for (const auto& [metric, word] : verdict.by_metric) {
      std::vector<std::string> told;
      for (const ComparisonResult& one : results.comparisons) {
        if (one.verdict == verdict.name && one.metric == metric)
          told.push_back(comparison_text(plan, one));
      }
      text += str("- ", metric, " ", name_of(word), ": ", join(told, "; "), "\n");
    }
  }
  return text;
}

}  // namespace lf
