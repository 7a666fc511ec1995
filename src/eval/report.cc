#include "eval/report.h"

#include "base/json.h"
#include "base/text.h"

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
  if (result.reference_n > 0) json.field("reference_n", result.reference_n);
  if (!result.extractor_hash.empty()) json.field("extractor_hash", result.extractor_hash);
  if (!result.layer.empty()) json.field("layer", result.layer);
  if (!result.subject.empty()) json.field("subject", result.subject);
  if (!result.weights.empty()) json.field("weights", result.weights);
  if (result.images >= 0) json.field("images", result.images);
  for (const auto& [name, number] : result.value.more) json.field(name, number);
  if (!result.value.per_frame.empty()) json.field("per_frame", result.value.per_frame);
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
  for (const Result& result : results) {
    std::vector<std::string> facts = {str("n ", result.value.n)};
    if (!result.extractor.empty()) {
      facts.push_back(str(result.extractor, " ", result.layer, " ", result.preprocessing));
    }
    if (!result.reference.empty()) facts.push_back("against " + printable(result.reference, 80));
    for (const auto& [name, number] : result.value.more) facts.push_back(str(name, " ", number));
    text +=
        str(result.metric, "  ", json_number(result.value.value), "  (", join(facts, ", "), ")\n");
  }
  return text;
}

}  // namespace lf
