#include "sweep/results.h"

#include <algorithm>

#include "base/json.h"
#include "base/text.h"

namespace lf {
namespace {

// The extractor that most finished runs have for a metric.
std::string most_common(const std::vector<ArmRun>& runs, const std::string& metric) {
  std::map<std::string, int> counts;
  for (const ArmRun& run : runs) {
    const auto found = run.row.extractors.find(metric);
    if (found != run.row.extractors.end()) ++counts[found->second];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == counts.end() ? "" : most->first;
}

double member(const RunRow& row, const char* name, double otherwise) {
  double value = otherwise;
  parse(json_member(row.json, name), &value);
  return value;
}

ArmResult arm_result(const SweepPlan& plan, size_t arm, const std::vector<ArmRun>& runs,
                     const ArmSize& size, const std::map<std::string, std::string>& extractors) {
  ArmResult out{.arm = arm,
                .bits = size.bits,
                .parameters = static_cast<double>(size.parameters),
                .multiplications = size.multiplications};
  for (const ArmRun& run : runs) {
    if (run.arm != arm) continue;
    out.runs.push_back(run);
    if (run.state != ArmRun::State::kFinished) continue;
    out.bits = member(run.row, "bits", out.bits);
    out.parameters = member(run.row, "parameters", out.parameters);
    out.multiplications = member(run.row, "multiplications", out.multiplications);
    for (const MeasurePlan& measure : plan.measures) {
      const auto value = run.row.values.find(measure.name);
      const auto by = run.row.extractors.find(measure.name),
                 of_most = extractors.find(measure.name);
      const bool same = by == run.row.extractors.end() || by->second == of_most->second;
      if (value != run.row.values.end() && same) out.values[measure.name][run.seed] = value->second;
    }
  }
  return out;
}

std::vector<double> list_of(const std::map<int, double>& values) {
  std::vector<double> out;
  for (const auto& [seed, value] : values) out.push_back(value);
  return out;
}

void note_what_has_not_learnt(const SweepPlan& plan, const std::vector<AnchorResult>& anchors,
                              ArmResult& arm) {
  for (const AnchorResult& anchor : anchors) {
    const auto measure =
        std::find_if(plan.measures.begin(), plan.measures.end(),
                     [&](const MeasurePlan& m) { return m.name == anchor.metric; });
    const auto values = arm.values.find(anchor.metric);
    if (measure == plan.measures.end() || values == arm.values.end()) continue;
    const double mean = mean_of(list_of(values->second));
    if (measure->higher ? mean < anchor.value : mean > anchor.value) arm.note = "not learnt";
  }
}

void add_verdict(const SweepPlan& plan, const SweepVerdict& verdict, Results& out) {
  const auto values_of = [&](const std::string& name, const std::string& metric) {
    for (const ArmResult& arm : out.arms) {
      const auto found = arm.values.find(metric);
      if (plan.arms[arm.arm].name == name && found != arm.values.end()) return found->second;
    }
    return std::map<int, double>{};
  };
  VerdictResult result{verdict.name(), verdict.question(), Word::kUndecided, {}};
  std::vector<Word> by_metric;
  for (const MeasurePlan& measure : plan.measures) {
    std::vector<Word> words;
    for (const Pair& pair : verdict.compare()) {
      const Paired paired = compare_pairs(values_of(pair.better(), measure.name),
                                          values_of(pair.than(), measure.name), measure.higher);
      out.comparisons.push_back({verdict.name(), pair.better(), pair.than(), measure.name, paired});
      words.push_back(paired.word);
    }
    by_metric.push_back(word_of_all(words));
    result.by_metric.emplace_back(measure.name, by_metric.back());
  }
  result.word = word_agreed(by_metric);
  out.verdicts.push_back(std::move(result));
}

void number_or_null(Json& json, const char* name, double value) {
  value > 0 ? json.field(name, value) : json.key(name).raw("null");
}

void optional_number(Json& json, const char* name, const std::optional<double>& value) {
  value ? json.field(name, *value) : json.key(name).raw("null");
}

void write_run(Json& json, const ArmRun& run, const ResultsHead& head, FileSystem& files) {
  json.object([&] {
    json.field("seed", run.seed).field("state", name_of(run.state));
    const bool here = files.exists(head.folder + "/" + run.folder + "/config.pbtxt");
    here ? json.field("run", run.folder) : json.key("run").raw("null");
    const std::string seconds = json_member(run.row.json, "seconds");
    json.key("seconds").raw(seconds.empty() ? "null" : seconds);
    json.field("error", run.error).field("hash", run.hash);
    const bool done = run.state == ArmRun::State::kFinished;
    json.key("values").raw(done ? json_member(run.row.json, "values") : "{}");
    const std::string curve = json_member(run.row.json, "curve");
    json.key("curve").raw(curve.empty() ? "{}" : curve);
  });
}

void write_arm(Json& json, const SweepPlan& plan, const ArmResult& result, const ResultsHead& head,
               FileSystem& files) {
  const ArmPlan& arm = plan.arms[result.arm];
  json.object([&] {
    json.field("name", arm.name).field("about", arm.about).field("set", arm.set);
    json.object("at", [&] {
      for (const auto& [option, value] : arm.at) json.field(option, value);
    });
    json.field("images", arm.images).field("steps", arm.steps());
    number_or_null(json, "bits", result.bits);
    number_or_null(json, "parameters", result.parameters);
    number_or_null(json, "multiplications", result.multiplications);
    json.field("note", result.note);
    json.array("runs", [&] {
      for (const ArmRun& run : result.runs) write_run(json, run, head, files);
    });
    json.object("values", [&] {
      for (const auto& [metric, values] : result.values) json.field(metric, list_of(values));
    });
    json.object("mean", [&] {
      for (const auto& [metric, values] : result.values)
        json.field(metric, mean_of(list_of(values)));
    });
    json.object("spread", [&] {
      for (const auto& [metric, values] : result.values)
        optional_number(json, metric.c_str(), spread_of(list_of(values)));
    });
    const auto done = std::count_if(result.runs.begin(), result.runs.end(), [](const ArmRun& run) {
      return run.state == ArmRun::State::kFinished;
    });
    json.field("n", done);
  });
}

void write_metrics(Json& json, const SweepPlan& plan, const Results& results) {
  json.array("metrics", [&] {
    for (const MeasurePlan& measure : plan.measures) {
      json.object([&] {
        json.field("name", measure.name).field("unit", measure.unit);
        json.field("better", measure.higher ? "HIGHER" : "LOWER")
            .field("samples", plan.sweep.samples());
        const auto extractor = results.extractors.find(measure.name);
        extractor == results.extractors.end() ? json.key("extractor").raw("null")
                                              : json.field("extractor", extractor->second);
        measure.reference.empty() ? json.key("reference").raw("null")
                                  : json.field("reference", measure.reference);
      });
    }
  });
  json.array("axes", [&] {
    for (const SweepAxis& axis : plan.sweep.axis()) {
      json.object([&] {
        json.field("option", axis.option());
        json.array("values", [&] {
          for (const std::string& value : axis.value()) json.value(value);
        });
      });
    }
  });
}

void write_verdicts(Json& json, const Results& results) {
  json.array("anchors", [&] {
    for (const AnchorResult& anchor : results.anchors) {
      json.object([&] {
        json.field("name", anchor.name).field("metric", anchor.metric).field("value", anchor.value);
      });
    }
  });
  json.array("comparisons", [&] {
    for (const ComparisonResult& one : results.comparisons) {
      json.object([&] {
        json.field("verdict", one.verdict).field("better", one.better).field("than", one.than);
        json.field("metric", one.metric).field("n", one.paired.n);
        optional_number(json, "mean", one.paired.mean);
        optional_number(json, "low", one.paired.low);
        optional_number(json, "high", one.paired.high);
        json.field("word", name_of(one.paired.word));
      });
    }
  });
  json.array("verdicts", [&] {
    for (const VerdictResult& verdict : results.verdicts) {
      json.object([&] {
        json.field("name", verdict.name)
            .field("question", verdict.question)
            .field("word", name_of(verdict.word));
        json.object("by_metric", [&] {
          for (const auto& [metric, word] : verdict.by_metric) json.field(metric, name_of(word));
        });
      });
    }
  });
}

void write_pictures(Json& json, const SweepPlan& plan, const Results& results,
                    const ResultsHead& head, FileSystem& files) {
  const auto there = [&](const std::string& path) {
    return files.exists(head.folder + "/" + path);
  };
  json.object("pictures", [&] {
    if (there("pictures/held_out.npy")) json.field("held_out", "pictures/held_out.npy");
    json.object("arms", [&] {
      for (const ArmResult& arm : results.arms) {
        const std::string &name = plan.arms[arm.arm].name, path = "pictures/" + name + ".npy";
        if (there(path)) json.field(name, path);
      }
    });
  });
}

}  // namespace

Results results_of(const SweepPlan& plan, const std::vector<ArmRun>& runs,
                   const std::vector<ArmSize>& sizes, const std::vector<AnchorResult>& anchors,
                   bool short_sweep) {
  Results out;
  out.anchors = anchors;
  for (const MeasurePlan& measure : plan.measures) {
    const std::string hash = most_common(runs, measure.name);
    if (!hash.empty()) out.extractors[measure.name] = hash;
  }
  for (size_t i = 0; i < plan.arms.size(); ++i) {
    ArmResult arm = arm_result(plan, i, runs, sizes[i], out.extractors);
    if (arm.runs.empty()) continue;
    note_what_has_not_learnt(plan, anchors, arm);
    for (const ArmRun& run : arm.runs) {
      if (run.state != ArmRun::State::kFinished)
        out.unfinished.push_back(str(plan.arms[i].name, " seed ", run.seed));
    }
    out.arms.push_back(std::move(arm));
  }
  if (short_sweep) return out;
  for (const SweepVerdict& verdict : plan.sweep.verdict()) add_verdict(plan, verdict, out);
  return out;
}

std::string results_json(const SweepPlan& plan, const Results& results, const ResultsHead& head,
                         FileSystem& files) {
  Json json;
  json.object([&] {
    json.field("format", 1)
        .field("name", plan.sweep.name())
        .field("question", plan.sweep.question());
    json.field("sweep", head.sweep_hash).field("program", head.program);
    json.field("equal", Sweep::Equal_Name(plan.sweep.equal()))
        .field("images", plan.arms[plan.reference].images);
    json.field("short", head.short_sweep).field("minimum_steps", plan.sweep.minimum_steps());
    json.field("subject", Sweep::Subject_Name(plan.sweep.subject()));
    write_metrics(json, plan, results);
    json.array("arms", [&] {
      for (const ArmResult& arm : results.arms) write_arm(json, plan, arm, head, files);
    });
    write_verdicts(json, results);
    write_pictures(json, plan, results, head, files);
    json.field("unfinished", results.unfinished);
  });
  return json.text() + "\n";
}

}  // namespace lf
