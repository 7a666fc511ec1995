#include "sweep/measuring.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace lf {
namespace {

constexpr uint64_t kLargestLog = uint64_t{1} << 30;
constexpr char kLoss[] = "loss";

bool of_samples(const SweepPlan& plan) { return plan.sweep.subject() == Sweep::SAMPLES; }

// One call of evaluate: metrics that share extractor and reference.
struct Call {
  std::string extractor, reference;
  bool lpips = false;
  std::vector<const MeasurePlan*> measures;
};

std::vector<Call> calls_of(const SweepPlan& plan) {
  std::vector<Call> calls;
  const auto call_for = [&](const MeasurePlan& measure) -> Call& {
    for (Call& call : calls) {
      // Pairs cost nothing more where clips are reconstructed anyway.
      const bool free = !measure.by_features && !of_samples(plan) && measure.extractor.empty();
      const bool same = call.extractor == measure.extractor && call.reference == measure.reference;
      if (free || (same && call.measures.front()->by_features == measure.by_features)) return call;
    }
    calls.push_back({measure.extractor, measure.reference, measure.metric == "lpips", {}});
    return calls.back();
  };
  for (const bool features : {true, false}) {
    for (const MeasurePlan& measure : plan.measures) {
      if (measure.metric == kLoss || measure.by_features != features) continue;
      call_for(measure).measures.push_back(&measure);
    }
  }
  return calls;
}

std::string metrics_of(const Call& call) {
  std::vector<std::string> names;
  for (const MeasurePlan* measure : call.measures) {
    if (std::find(names.begin(), names.end(), measure->metric) == names.end())
      names.push_back(measure->metric);
  }
  return join(names, ",");
}

// The same images for every arm, whose features are then computed once.
std::string reference_of(const SweepPlan& plan, const Workshop& workshop,
                         const std::string& given) {
  return given.empty() ? workshop.held_out_store(plan.arms[plan.reference].config) : given;
}

int64_t samples_of(const SweepPlan& plan, const Workshop& workshop, const ArmPlan& arm) {
  return of_samples(plan) ? plan.sweep.samples()
                          : workshop.clips_of(workshop.held_out_store(arm.config));
}

// A metric's value in a report; of last frames where it tells them apart.
bool read_value(const std::string& results, const MeasurePlan& measure, double* value) {
  const std::string report = json_member(results, measure.metric);
  const std::string last = measure.all_frames ? "" : json_member(report, "last_frame");
  return parse(last.empty() ? json_member(report, "value") : last, value);
}

std::vector<std::string> lines_of(FileSystem& files, const std::string& run) {
  return split(read_file(files, run + "/metrics.jsonl", kLargestLog), '\n');
}

double last_loss(FileSystem& files, const std::string& run) {
  double loss = 0;
  bool found = false;
  for (const std::string& line : lines_of(files, run)) {
    if (json_member(line, "event") == "validation") found = parse(json_member(line, "loss"), &loss);
  }
  if (!found) fail(Code::kBug, "metrics.jsonl holds no validation loss");
  return loss;
}

}  // namespace

void set_curve(Config& config, const SweepPlan& plan, const Workshop& workshop,
               const std::string& held_out) {
  TrainConfig& train = *config.mutable_train();
  EvaluationConfig& evaluation = *config.mutable_evaluation();
  const int64_t quarter =
      (train.images() + 4 * train.batch() - 1) / (4 * train.batch()) * train.batch();
  evaluation.clear_metrics();
  for (const MeasurePlan& measure : plan.measures) {
    if (measure.metric == kLoss) {
      train.set_validation_images(measure.curve ? quarter : train.images());
      train.set_validation_clips(static_cast<int32_t>(workshop.clips_of(held_out)));
      continue;
    }
    if (!measure.curve) continue;
    const bool there =
        std::count(evaluation.metrics().begin(), evaluation.metrics().end(), measure.metric) > 0;
    if (!there) evaluation.add_metrics(measure.metric);
    evaluation.set_every_images(quarter);
    evaluation.set_samples(of_samples(plan) ? plan.sweep.samples() : workshop.clips_of(held_out));
    if (!measure.by_features) continue;
    evaluation.set_extractor(with_placeholders(measure.extractor, workshop.weights()));
    evaluation.set_reference(reference_of(plan, workshop, measure.reference));
    evaluation.set_subject(of_samples(plan) ? EvaluationConfig::SAMPLES
                                            : EvaluationConfig::RECONSTRUCTIONS);
  }
}

std::map<std::string, double> measure(const SweepPlan& plan, const Workshop& workshop,
                                      const ArmPlan& arm, int seed, const std::string& run,
                                      const std::string& log) {
  std::map<std::string, double> values;
  for (const Call& call : calls_of(plan)) {
    std::vector<std::string> words = {"evaluate",
                                      "--run",
                                      run,
                                      "--metrics",
                                      metrics_of(call),
                                      "--samples",
                                      std::to_string(samples_of(plan, workshop, arm)),
                                      "--threads",
                                      "1"};
    if (call.measures.front()->by_features) {
      const std::string extractor = with_placeholders(call.extractor, workshop.weights());
      words.insert(words.end(),
                   {"--subject", Sweep::Subject_Name(plan.sweep.subject()), "--extractor",
                    extractor, "--reference", reference_of(plan, workshop, call.reference)});
      if (of_samples(plan)) words.insert(words.end(), {"--seed", std::to_string(seed)});
    } else if (call.lpips) {
      words.insert(words.end(), {"--lpips", with_placeholders(call.extractor, workshop.weights())});
    }
    const std::string told = workshop.children().json(words, log, Children::On::kAllRanks);
    for (const MeasurePlan* one : call.measures) {
      if (!read_value(told, *one, &values[one->name])) {
        fail(Code::kBug, "evaluate tells no value of ", one->metric);
      }
    }
  }
  for (const MeasurePlan& one : plan.measures) {
    if (one.metric == kLoss) values[one.name] = last_loss(workshop.files(), run);
  }
  return values;
}

std::map<std::string, Curve> curves_of(const SweepPlan& plan, FileSystem& files,
                                       const std::string& run) {
  std::map<std::string, Curve> curves;
  for (const std::string& line : lines_of(files, run)) {
    const std::string event = json_member(line, "event"), results = json_member(line, "results");
    int64_t images = 0;
    double value = 0;
    if (event.empty() || !parse(json_member(line, "images"), &images)) continue;
    for (const MeasurePlan& measure : plan.measures) {
      if (!measure.curve) continue;
      const bool loss = measure.metric == kLoss && event == "validation" &&
                        parse(json_member(line, "loss"), &value);
      if (loss || (event == "evaluation" && read_value(results, measure, &value))) {
        curves[measure.name].emplace_back(images, value);
      }
    }
  }
  return curves;
}

std::map<std::string, std::string> extractor_hashes(const SweepPlan& plan,
                                                    const Workshop& workshop) {
  std::map<std::string, std::string> out, known;
  for (const MeasurePlan& measure : plan.measures) {
    const std::string file = with_placeholders(measure.extractor, workshop.weights());
    if (file.empty() || !workshop.files().exists(file)) continue;
    std::string& hash = known[file];
    if (hash.empty()) hash = weights_hash(file);
    out[measure.name] = hash;
  }
  return out;
}

void make_pictures(const SweepPlan& plan, const Workshop& workshop, const ArmPlan& arm,
                   const std::string& run, const std::string& array, const std::string& log) {
  std::vector<std::string> words = {"sample", "--run", run, "--threads", "1", "--out", array};
  int64_t count = plan.sweep.pictures();
  if (!of_samples(plan)) {
    const std::string store = workshop.picture_store(arm.config);
    words.insert(words.end(), {"--store", store});
    count = std::min(count, workshop.clips_of(store));
  }
  words.insert(words.end(), {"--count", std::to_string(count)});
  workshop.children().call(words, log, Children::On::kAllRanks);
}

}  // namespace lf
