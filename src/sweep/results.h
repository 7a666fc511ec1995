// What came out of a sweep: the values of each arm over its seeds, paired comparisons, verdicts; as
// results.json for programs and as a table for people.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sweep/runs.h"
#include "sweep/statistics.h"

namespace lf {

struct ArmResult {
  size_t arm = 0;                                            // of the plan
  std::vector<ArmRun> runs = {};                             // by seed
  std::map<std::string, std::map<int, double>> values = {};  // by metric and seed
  double bits = 0, parameters = 0, multiplications = 0;      // 0: not known
  std::string note = {};                                     // "not learnt" or ""
};

struct ComparisonResult {
  std::string verdict, better, than, metric;
  Paired paired;
};

struct VerdictResult {
  std::string name, question;
  Word word = Word::kUndecided;
  std::vector<std::pair<std::string, Word>> by_metric;
};

struct AnchorResult {
  std::string name, metric;
  double value = 0;
};

struct Results {
  std::vector<ArmResult> arms;
  std::vector<AnchorResult> anchors;
  std::vector<ComparisonResult> comparisons;
  std::vector<VerdictResult> verdicts;            // none of a short sweep
  std::map<std::string, std::string> extractors;  // by metric, of the values that are compared
  std::vector<std::string> unfinished;            // "E seed 0"
};

// Values by other weights of an extractor than most have are left out: they do not compare.
Results results_of(const SweepPlan& plan, const std::vector<ArmRun>& runs,
                   const std::vector<ArmSize>& sizes, const std::vector<AnchorResult>& anchors,
                   bool short_sweep);

struct ResultsHead {
  std::string sweep_hash, program;  // of the resolved sweep; version
  bool short_sweep = false;
  std::string folder;  // of runs and pictures
};
std::string results_json(const SweepPlan& plan, const Results& results, const ResultsHead& head,
                         FileSystem& files);
std::string results_text(const SweepPlan& plan, const Results& results, bool short_sweep);

}  // namespace lf
