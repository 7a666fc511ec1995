#include "eval/report.h"

#include <array>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "checkpoint/manifest.h"

namespace lf {
namespace {

void text_or_null(Json& json, const char* name, const std::string& text) {
  json.key(name).raw(text.empty() ? "null" : json_quote(text));
}

void write_result(Json& json, const Result& result) {
  json.field("value", result.value.value).field("n", result.value.n);
  text_or_null(json, "extractor", result.extractor);
  text_or_null(json, "preprocessing", result.preprocessing);
  text_or_null(json, "reference", result.reference);
  json.key("seed").raw(result.seeded ? std::to_string(result.seed) : "null");
  if (!result.reference_hash.empty()) json.field("reference_hash", result.reference_hash);
  if (result.reference_n > 0) json.field("reference_n", result.reference_n);
  if (result.reference_of > 0) json.field("reference_of", result.reference_of);
  if (!result.extractor_hash.empty()) json.field("extractor_hash", result.extractor_hash);
  if (!result.layer.empty()) json.field("layer", result.layer);
  if (!result.subject.empty()) json.field("subject", result.subject);
  if (!result.clips.empty()) json.field("clips", result.clips);
  if (!result.weights.empty()) json.field("weights", result.weights);
  if (!result.precision.empty()) json.field("precision", result.precision);
  if (result.images >= 0) json.field("images", result.images);
  for (const auto& [name, number] : result.value.more) json.field(name, number);
  if (!result.value.per_frame.empty()) json.field("per_frame", result.value.per_frame);
}

// Four significant digits, or all before the point.
std::string digits(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), std::abs(value) >= 1000 ? "%.0f" : "%.4g", value);
  return text.data();
}

std::string facts_of(const Result& result) {
  std::vector<std::string> facts = {
      str("n ", result.value.n, result.clips.empty() ? "" : " " + result.clips + " clips")};
  if (!result.extractor.empty()) {
    facts.push_back(str(result.extractor, " ", result.layer, " ", result.preprocessing));
  }
  if (!result.reference.empty()) {
    const std::string part =
        result.reference_of > 0 ? str(result.reference_n, " of ", result.reference_of, " of ") : "";
    facts.push_back("against " + part + printable(result.reference, 80));
  }
  for (const auto& [name, number] : result.value.more) {
    if (name != "last_frame") facts.push_back(str(name, " ", digits(number)));
  }
  return join(facts, ", ");
}

}  // namespace

std::string results_json(const std::vector<Result>& results) {
  Json json;
  json.object([&] {
    for (const Result& result : results) {
      json.object(result.metric, [&] { write_result(json, result); });
    }
  });
  return json.text();
}

std::string results_text(const std::vector<Result>& results) {
  std::string text;
  bool flatters = false;
  for (const Result& result : results) {
    const std::vector<double>& frames = result.value.per_frame;
    text += str(result.metric, "  ", digits(result.value.value), "  (", facts_of(result), ")\n");
    if (frames.size() > 1) {
      text += str(result.metric, " of the last frame  ", digits(frames.back()), "\n");
    }
    flatters = flatters || result.clips == "training";
  }
  if (flatters) {
    text +=
        "These are clips that the model was trained on, which flatters it; give others with "
        "--set train.validation_store=STORE.\n";
  }
  return text;
}

EvaluationRecord record_of(const std::vector<Result>& results, int64_t images) {
  LF_CHECK(!results.empty());
  EvaluationRecord record;
  std::vector<std::string> names;
  for (const Result& result : results) {
    names.push_back(result.metric);
    NamedNumber* number = record.add_number();
    number->set_name(result.metric);
    number->set_value(result.value.value);
  }
  const Result& first = results.front();
  record.set_images(images);
  record.set_name(str(checkpoint_name(images), "-", first.subject, "-n", first.value.n,
                      first.seeded ? str("-seed", first.seed) : "",
                      first.precision == "BF16" ? "-bf16" : "", "-",
                      join(names, "-").substr(0, 120), ".json"));
  record.set_json(results_json(results));
  return record;
}

std::string publish_record(const EvaluationRecord& record, const std::string& run_folder) {
  const std::string folder = run_folder + "/evaluations";
  real_file_system().make_folders(folder);
  const std::string path = folder + "/" + record.name();
  publish_file(real_file_system(), path, record.json() + "\n");
  return path;
}

}  // namespace lf
