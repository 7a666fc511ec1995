// What a sweep found, from its results.json, which may be half written or hostile: fields that are
// missing stay empty and are said in `missing`. Holds numbers and words; pictures stay files.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "report/analysis.h"

namespace lf {

struct SweepMetric {
  std::string name, unit, extractor, reference;
  bool higher_is_better = false;
  double samples = 0;
};

struct SweepRun {
  double seed = 0, seconds = 0;
  std::string state, error;
  std::vector<std::pair<std::string, double>> values;                  // by metric
  std::vector<std::pair<std::string, std::vector<CostPoint>>> curves;  // by metric, over images
};

struct SweepArm {
  std::string name, about, note;
  std::vector<std::string> sets;
  std::vector<std::pair<std::string, std::string>> at;  // option -> value of each axis
  double images = 0, steps = 0, bits = 0, parameters = 0;
  double multiplications = 0;  // to learn from one image
  std::vector<SweepRun> runs;

  // Of the runs that have a value.
  MeanSpread of(const std::string& metric) const;
  // The means over runs of their curves where all of those that have one are measured.
  std::vector<CostPoint> mean_curve(const std::string& metric) const;
  double compute() const { return multiplications * images; }
  std::string value_at_axis(const std::string& option) const;  // "": the arm has none
};

struct SweepComparison {
  std::string verdict, better, than, metric, word;
  double n = 0, mean = 0, low = 0, high = 0;
};

struct SweepVerdict {
  std::string name, question, word;
  std::vector<std::pair<std::string, std::string>> by_metric;
};

struct SweepAnchor {
  std::string name, metric;
  double value = 0;
};

struct SweepResults {
  std::string folder, name, question, program, equal;
  bool is_short = false;
  double images = 0, minimum_steps = 0;
  std::vector<SweepMetric> metrics;
  std::vector<std::pair<std::string, std::vector<std::string>>> axes;
  std::vector<SweepArm> arms;
  std::vector<SweepAnchor> anchors;
  std::vector<SweepComparison> comparisons;
  std::vector<SweepVerdict> verdicts;
  std::string held_out;                                       // path of a .npy file; "": none
  std::vector<std::pair<std::string, std::string>> pictures;  // arm -> path
  std::vector<std::string> unfinished, missing;
};

// A sweep's folder, or its results.json.
bool is_sweep(FileSystem& files, const std::string& path);
SweepResults read_sweep(FileSystem& files, const std::string& path);

// The value of a curve or of a run by a metric's name; null if there is none.
template <typename T>
const T* by_name(const std::vector<std::pair<std::string, T>>& list, const std::string& name) {
  for (const auto& [key, value] : list) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace lf
