#include "report/sweep_results.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/json_value.h"
#include "base/text.h"

namespace lf {
namespace {

constexpr uint64_t kLargestResults = uint64_t{256} << 20;
constexpr size_t kMostArms = 2000, kMostCurvePoints = 400;

std::string short_text(const JsonValue& value, size_t longest = 200) {
  return printable(value.is_number() ? str(value.number()) : value.text(), longest);
}

std::vector<std::string> texts(const JsonValue& list, size_t most = 200) {
  std::vector<std::string> out;
  for (const JsonValue& value : list.list()) {
    if (out.size() < most) out.push_back(short_text(value));
  }
  return out;
}

// Members of an object as pairs of texts.
std::vector<std::pair<std::string, std::string>> text_members(const JsonValue& object) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [name, value] : object.members()) {
    if (out.size() < 100) out.emplace_back(printable(name), short_text(value));
  }
  return out;
}

std::vector<CostPoint> curve_of(const JsonValue& list) {
  std::vector<CostPoint> curve;
  const size_t every = list.list().size() / kMostCurvePoints + 1;
  for (size_t i = 0; i < list.list().size(); ++i) {
    const JsonValue::List& pair = list.list()[i].list();
    if (pair.size() != 2 || (i % every != 0 && i + 1 != list.list().size())) continue;
    if (std::isfinite(pair[0].number()) && std::isfinite(pair[1].number())) {
      curve.push_back({pair[0].number(), pair[1].number()});
    }
  }
  std::stable_sort(curve.begin(), curve.end(),
                   [](const CostPoint& a, const CostPoint& b) { return a.cost < b.cost; });
  return curve;
}

SweepRun run_of(const JsonValue& json) {
  SweepRun run;
  run.seed = json["seed"].number(0);
  run.seconds = json["seconds"].number(0);
  run.state = short_text(json["state"], 40);
  run.error = short_text(json["error"], 300);
  for (const auto& [metric, value] : json["values"].members()) {
    if (value.is_number() && run.values.size() < 64) {
      run.values.emplace_back(printable(metric), value.number());
    }
  }
  for (const auto& [metric, points] : json["curve"].members()) {
    if (run.curves.size() < 64) run.curves.emplace_back(printable(metric), curve_of(points));
  }
  return run;
}

SweepArm arm_of(const JsonValue& json) {
  SweepArm arm;
  arm.name = short_text(json["name"], 80);
  arm.about = short_text(json["about"]);
  arm.note = short_text(json["note"]);
  arm.sets = texts(json["set"]);
  arm.at = text_members(json["at"]);
  for (const auto& [name, into] :
       {std::pair{"images", &arm.images}, std::pair{"steps", &arm.steps},
        std::pair{"bits", &arm.bits}, std::pair{"parameters", &arm.parameters},
        std::pair{"multiplications", &arm.multiplications}}) {
    *into = json[name].number(0);
    if (!std::isfinite(*into) || *into < 0) *into = 0;
  }
  for (const JsonValue& run : json["runs"].list()) {
    if (arm.runs.size() < 200) arm.runs.push_back(run_of(run));
  }
  return arm;
}

void read_head(SweepResults& sweep, const JsonValue& json) {
  sweep.name = short_text(json["name"], 100);
  sweep.question = short_text(json["question"], 500);
  sweep.program = short_text(json["program"], 100);
  sweep.equal = short_text(json["equal"], 40);
  sweep.is_short = json["short"].boolean();
  sweep.images = json["images"].number(0);
  sweep.minimum_steps = json["minimum_steps"].number(0);
  for (const JsonValue& metric : json["metrics"].list()) {
    if (sweep.metrics.size() >= 32) break;
    sweep.metrics.push_back({short_text(metric["name"], 60), short_text(metric["unit"], 20),
                             short_text(metric["extractor"], 60),
                             short_text(metric["reference"], 60),
                             metric["better"].text() == "HIGHER", metric["samples"].number(0)});
  }
  for (const JsonValue& axis : json["axes"].list()) {
    if (sweep.axes.size() < 16) {
      sweep.axes.emplace_back(short_text(axis["option"], 100), texts(axis["values"], 1000));
    }
  }
  for (const JsonValue& anchor : json["anchors"].list()) {
    if (anchor["value"].is_number() && sweep.anchors.size() < 100) {
      sweep.anchors.push_back(
          {short_text(anchor["name"]), short_text(anchor["metric"], 60), anchor["value"].number()});
    }
  }
  sweep.unfinished = texts(json["unfinished"], 400);
}

void read_verdicts(SweepResults& sweep, const JsonValue& json) {
  for (const JsonValue& one : json["comparisons"].list()) {
    if (sweep.comparisons.size() >= 1000) break;
    sweep.comparisons.push_back({short_text(one["verdict"]), short_text(one["better"], 80),
                                 short_text(one["than"], 80), short_text(one["metric"], 60),
                                 short_text(one["word"], 40), one["n"].number(0),
                                 one["mean"].number(), one["low"].number(), one["high"].number()});
  }
  for (const JsonValue& one : json["verdicts"].list()) {
    if (sweep.verdicts.size() >= 200) break;
    sweep.verdicts.push_back({short_text(one["name"]), short_text(one["question"], 500),
                              short_text(one["word"], 40), text_members(one["by_metric"])});
  }
}

void read_pictures(SweepResults& sweep, const JsonValue& pictures) {
  const auto path_of = [&](const JsonValue& value) -> std::string {
    if (value.text().empty()) return "";
    try {
      const std::string path = safe_join(sweep.folder, value.text(), "results.json");
      if (lies_under(sweep.folder, path)) return path;
      sweep.missing.push_back("The picture " + short_text(value) + " lies outside the sweep.");
    } catch (const Error& error) {
      sweep.missing.push_back(printable(error.what(), 300) + ".");
    }
    return "";
  };
  sweep.held_out = path_of(pictures["held_out"]);
  for (const auto& [arm, path] : pictures["arms"].members()) {
    if (sweep.pictures.size() >= kMostArms) break;
    if (const std::string found = path_of(path); !found.empty()) {
      sweep.pictures.emplace_back(printable(arm, 80), found);
    }
  }
}

}  // namespace

MeanSpread SweepArm::of(const std::string& metric) const {
  std::vector<double> values;
  for (const SweepRun& run : runs) {
    if (const double* value = by_name(run.values, metric); value != nullptr) {
      values.push_back(*value);
    }
  }
  return mean_spread(values);
}

std::vector<CostPoint> SweepArm::mean_curve(const std::string& metric) const {
  std::map<double, std::vector<double>> by_images;
  size_t curves = 0;
  for (const SweepRun& run : runs) {
    const std::vector<CostPoint>* curve = by_name(run.curves, metric);
    if (curve == nullptr || curve->empty()) continue;
    ++curves;
    for (const CostPoint& point : *curve) by_images[point.cost].push_back(point.value);
  }
  std::vector<CostPoint> out;
  for (const auto& [seen, values] : by_images) {
    if (values.size() >= curves) out.push_back({seen, mean_spread(values).mean});
  }
  return out;
}

std::string SweepArm::value_at_axis(const std::string& option) const {
  const std::string* value = by_name(at, option);
  return value == nullptr ? "" : *value;
}

bool is_sweep(FileSystem& files, const std::string& path) {
  FileInfo info;
  if (!files.info(path, &info)) return false;
  return info.is_folder ? files.exists(path + "/results.json") : path.ends_with("results.json");
}

SweepResults read_sweep(FileSystem& files, const std::string& path) {
  SweepResults sweep;
  FileInfo info;
  const bool is_folder = files.info(path, &info) && info.is_folder;
  sweep.folder = is_folder ? path : parent_folder(path);
  while (sweep.folder.size() > 1 && sweep.folder.ends_with('/')) sweep.folder.pop_back();
  sweep.name = printable(sweep.folder.substr(sweep.folder.rfind('/') + 1), 100);
  std::optional<JsonValue> json;
  try {
    json = JsonValue::parse(
        read_file(files, is_folder ? path + "/results.json" : path, kLargestResults));
    if (!json || !json->is_object()) {
      sweep.missing.emplace_back(
          "results.json is no JSON object; it may have been cut off. Run the sweep once more: it "
          "writes it anew from what is finished.");
      return sweep;
    }
  } catch (const Error& error) {
    sweep.missing.push_back(printable(error.what(), 300) + ".");
    return sweep;
  }
  if (const double format = (*json)["format"].number(1); format > 1) {
    sweep.missing.push_back(str("results.json is of format ", format,
                                ", written by a newer program; this one reads format 1."));
  }
  read_head(sweep, *json);
  for (const JsonValue& arm : (*json)["arms"].list()) {
    if (sweep.arms.size() < kMostArms) sweep.arms.push_back(arm_of(arm));
  }
  read_verdicts(sweep, *json);
  read_pictures(sweep, (*json)["pictures"]);
  if (sweep.metrics.empty()) sweep.missing.emplace_back("results.json names no metrics.");
  if (sweep.arms.empty()) sweep.missing.emplace_back("results.json holds no arms.");
  return sweep;
}

}  // namespace lf
