#include "report/run_folder.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/run_claim.h"
#include "config/config.h"

namespace lf {
namespace {

constexpr size_t kMostPoints = 2048, kMostCurves = 48;
constexpr uint64_t kMostMetricsBytes = uint64_t{512} << 20;
constexpr size_t kLongestLine = 1 << 20;
constexpr uint64_t kLargestText = 4 << 20;
constexpr size_t kMostFiles = 2000;  // of a folder that are looked at

// Calls `read`; if it throws what a file can cause, that becomes a sentence of what is missing.
template <typename Read>
void attempt(RunFolder& run, const std::string& what, const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    run.missing.push_back(what + ": " + printable(error.what(), 300));
  }
}

// The text of a file that every run has; "" and a sentence where it cannot be read.
std::string text_of(FileSystem& files, RunFolder& run, const std::string& name,
                    const std::string& without) {
  std::string text;
  const std::string path = run.folder + "/" + name;
  attempt(run, name, [&] {
    if (files.exists(path)) {
      text = read_file(files, path, kLargestText);
    } else {
      run.missing.push_back("There is no " + name + ": " + without + ".");
    }
  });
  return text;
}

// The lines of a file, whatever its length, a chunk at a time. Lines over kLongestLine, and what
// stands behind the last newline, are counted in `unreadable`.
template <typename Line>
void for_each_line(const InFile& file, uint64_t bytes, uint64_t& unreadable, const Line& line) {
  constexpr size_t kChunk = 1 << 20;
  std::string chunk, rest;
  bool too_long = false;
  for (uint64_t at = 0; at < bytes; at += chunk.size()) {
    chunk.resize(std::min<uint64_t>(kChunk, bytes - at));
    file.read(at, chunk.data(), chunk.size());
    for (size_t begin = 0; begin < chunk.size();) {
      const size_t end = std::min(chunk.find('\n', begin), chunk.size());
      too_long = too_long || rest.size() + end - begin > kLongestLine;
      if (!too_long) rest.append(chunk, begin, end - begin);
      begin = end + 1;
      if (end == chunk.size()) break;
      if (too_long || !line(rest)) ++unreadable;
      rest.clear();
      too_long = false;
    }
  }
  if (!rest.empty() || too_long) ++unreadable;
}

std::string text_or_number(const JsonValue& value) {
  return value.is_number() ? str(value.number()) : value.text();
}

int64_t whole_number(const JsonValue& value) {
  const double number = value.number(0);
  return std::abs(number) < 9e15 ? static_cast<int64_t>(number) : 0;
}

void add_results(RunFolder& run, const JsonValue& results, int64_t images) {
  constexpr size_t kMost = 20000;
  for (const auto& [metric, result] : results.members()) {
    if (!result.is_object() || run.measurements.size() >= kMost) continue;
    Measurement& found = run.measurements.emplace_back();
    found.images = result["images"].is_number() ? whole_number(result["images"]) : images;
    found.metric = metric;
    // Of the image that a pseudo video ends with, where it is told apart.
    const bool last_frame = result["last_frame"].is_number();
    found.value = result[last_frame ? "last_frame" : "value"].number();
    found.n = whole_number(result["n"]);
    found.reference_n = whole_number(result["reference_n"]);
    found.seed = text_or_number(result["seed"]);
    for (const auto& [name, into] :
         {std::pair{"extractor", &found.extractor}, std::pair{"layer", &found.layer},
          std::pair{"extractor_hash", &found.extractor_hash},
          std::pair{"preprocessing", &found.preprocessing},
          std::pair{"reference", &found.reference},
          std::pair{"reference_hash", &found.reference_hash}, std::pair{"subject", &found.subject},
          std::pair{"clips", &found.clips}, std::pair{"weights", &found.weights},
          std::pair{"precision", &found.precision}}) {
      *into = result[name].text();
    }
    if (last_frame) found.subject += ", last frames";
    for (const JsonValue& frame : result["per_frame"].list()) {
      if (found.per_frame.size() < 1024) found.per_frame.push_back(frame.number());
    }
  }
}

// The position and the time of each line, from its rate: images per second of the time since the
// line before, or since this start of the run.
class TrainingTime {
 public:
  explicit TrainingTime(const std::vector<LifeRecord>& starts) {
    for (const LifeRecord& start : starts) {
      begins_.push_back(static_cast<double>(start.resumed_from_images()));
    }
    std::sort(begins_.begin(), begins_.end());
  }
  double after(double images, double rate) {
    const auto next = std::lower_bound(begins_.begin(), begins_.end(), images);
    const double begin = next == begins_.begin() ? before_ : std::max(before_, *(next - 1));
    if (rate > 0 && std::isfinite(rate) && images > begin) seconds_ += (images - begin) / rate;
    before_ = images;
    return seconds_;
  }
  double seconds() const { return seconds_; }

 private:
  std::vector<double> begins_;
  double before_ = 0, seconds_ = 0;
};

Curve* curve_for(RunFolder& run, const std::string& name) {
  for (Curve& curve : run.curves) {
    if (curve.name() == name) return &curve;
  }
  if (run.curves.size() >= kMostCurves || name.size() > 100) return nullptr;
  return &run.curves.emplace_back(name);
}

bool add_line(RunFolder& run, TrainingTime& time, const std::string& line) {
  const std::optional<JsonValue> values = JsonValue::parse(line, 20000);
  if (!values || !(*values)["images"].is_number()) return false;
  const double images = (*values)["images"].number();
  if (!std::isfinite(images)) return false;
  const std::string event = (*values)["event"].text();
  if (event == "evaluation") {
    add_results(run, (*values)["results"], whole_number((*values)["images"]));
    return true;
  }
  const bool step = event.empty();
  const double seconds =
      step ? time.after(images, (*values)["images_per_second"].number(0)) : time.seconds();
  for (const auto& [name, value] : values->members()) {
    if (name == "images" || name == "event") continue;
    if (step && name == "loss" && !std::isfinite(value.number())) ++run.not_finite;
    if (!std::isfinite(value.number())) continue;
    Curve* curve = curve_for(run, step ? name : event + " " + name);
    if (curve != nullptr) curve->add({images, seconds, value.number()});
  }
  return true;
}

void read_metrics_of(FileSystem& files, RunFolder& run) {
  const std::string path = run.folder + "/metrics.jsonl";
  if (!files.exists(path)) {
    run.missing.emplace_back("There is no metrics.jsonl: no curves.");
    return;
  }
  const std::unique_ptr<InFile> file = files.open_read(path);
  TrainingTime time(run.starts);
  uint64_t unreadable = 0;
  const uint64_t bytes = std::min(file->size(), kMostMetricsBytes);
  for_each_line(*file, bytes, unreadable,
                [&](const std::string& line) { return add_line(run, time, line); });
  if (unreadable > 0) {
    run.missing.push_back(str(human_count(unreadable), unreadable == 1 ? " line" : " lines",
                              " of metrics.jsonl cannot be read and ",
                              unreadable == 1 ? "is" : "are", " left out."));
  }
  if (file->size() > bytes) {
    run.missing.push_back(str("metrics.jsonl has ", human_bytes(file->size()),
                              "; what is behind the first ", human_bytes(bytes), " is left out."));
  }
}

void read_evaluations(FileSystem& files, RunFolder& run) {
  const std::string folder = run.folder + "/evaluations";
  if (!files.exists(folder)) return;
  size_t looked = 0;
  for (const std::string& name : files.list(folder)) {
    if (!name.ends_with(".json") || ++looked > kMostFiles) continue;
    attempt(run, "evaluations/" + printable(name), [&] {
      const auto results = JsonValue::parse(read_file(files, folder + "/" + name, kLongestLine));
      if (!results || !results->is_object()) fail(Code::kData, "it is no JSON object");
      int64_t images = 0;
      parse_checkpoint_name(name.substr(0, checkpoint_name(0).size()), &images);
      add_results(run, *results, images);
    });
  }
}

// By metric and position; what metrics.jsonl and a file both hold, once.
void sort_measurements(std::vector<Measurement>& all) {
  const auto key = [](const Measurement& m) {
    return std::tie(m.metric, m.images, m.n, m.subject, m.clips, m.seed, m.extractor_hash,
                    m.reference_hash, m.weights, m.precision);
  };
  std::stable_sort(all.begin(), all.end(),
                   [&](const Measurement& a, const Measurement& b) { return key(a) < key(b); });
  all.erase(std::unique(all.begin(), all.end(),
                        [&](const Measurement& a, const Measurement& b) {
                          return key(a) == key(b) && a.value == b.value;
                        }),
            all.end());
}

void list_previews(FileSystem& files, RunFolder& run) {
  const std::string folder = run.folder + "/samples";
  if (!files.exists(folder)) return;
  for (const std::string& name : files.list(folder)) {
    PreviewFile preview;
    if (!name.ends_with(".png") ||
        !parse_checkpoint_name(name.substr(0, name.size() - 4), &preview.images)) {
      continue;
    }
    preview.path = folder + "/" + name;
    const std::string animation = preview.path.substr(0, preview.path.size() - 4) + ".apng";
    if (files.exists(animation)) preview.animation = animation;
    run.previews.push_back(std::move(preview));
  }
}

// Lines of warnings and errors at the end of the first ranks' logs, as glog begins them.
void read_logs(FileSystem& files, RunFolder& run) {
  constexpr size_t kMostLogs = 8, kMostLines = 40;
  constexpr uint64_t kEnough = 256 << 10;
  const std::string folder = run.folder + "/logs";
  if (!files.exists(folder)) return;
  size_t logs = 0;
  for (const std::string& name : files.list(folder)) {
    if (!name.starts_with("rank-") || ++logs > kMostLogs) continue;
    const std::unique_ptr<InFile> file = files.open_read(folder + "/" + name);
    std::string end(std::min(kEnough, file->size()), '\0');
    file->read(file->size() - end.size(), end.data(), end.size());
    for (const std::string& line : split(end, '\n')) {
      if (line.size() > 9 && (line[0] == 'W' || line[0] == 'E' || line[0] == 'F') &&
          line[1] == '2') {
        run.warnings.push_back(printable(line, 400));
      }
    }
  }
  if (run.warnings.size() > kMostLines) {
    run.warnings.erase(run.warnings.begin(), run.warnings.end() - kMostLines);
  }
}

void read_status(FileSystem& files, RunFolder& run) {
  const std::string text = text_of(files, run, "status.json", "the run's state is unknown");
  run.state = "unknown";
  if (text.empty()) return;
  if (std::optional<JsonValue> status = JsonValue::parse(text, 10000)) {
    run.status = *std::move(status);
    run.state = printable(run.status["state"].text("unknown"), 40);
  } else {
    run.missing.emplace_back("status.json is no JSON: the run's state is unknown.");
  }
  attempt(run, "lock", [&] {
    if (run.running() && holder_of_run(files, run.folder).state == RunHolder::State::kGone) {
      run.state = "interrupted";
    }
  });
}

void read_config(FileSystem& files, RunFolder& run) {
  run.config_text = text_of(files, run, "config.pbtxt", "the options are unknown");
  if (run.config_text.empty()) return;
  attempt(run, "config.pbtxt", [&] { run.config = parse_config(run.config_text, "config.pbtxt"); });
}

}  // namespace

void Curve::add(const RunPoint& point) {
  sum_.images += point.images;
  sum_.seconds += point.seconds;
  sum_.value += point.value;
  if (++waiting_ < each_) return;
  points_.push_back({sum_.images / each_, sum_.seconds / each_, sum_.value / each_});
  sum_ = {};
  waiting_ = 0;
  if (points_.size() < kMostPoints) return;
  for (size_t i = 0; i + 1 < points_.size(); i += 2) {
    const RunPoint &a = points_[i], &b = points_[i + 1];
    points_[i / 2] = {(a.images + b.images) / 2, (a.seconds + b.seconds) / 2,
                      (a.value + b.value) / 2};
  }
  points_.resize(points_.size() / 2);
  each_ *= 2;
}

const Curve* RunFolder::curve(const std::string& of) const {
  const auto found = std::find_if(curves.begin(), curves.end(),
                                  [&](const Curve& curve) { return curve.name() == of; });
  return found == curves.end() ? nullptr : &*found;
}

double RunFolder::seconds_at(double images) const {
  const Curve* rate = curve("images_per_second");
  if (rate == nullptr || rate->points().empty()) return 0;
  RunPoint before;
  for (const RunPoint& point : rate->points()) {
    if (point.images >= images) {
      const double share = point.images > before.images
                               ? (images - before.images) / (point.images - before.images)
                               : 1;
      return before.seconds + share * (point.seconds - before.seconds);
    }
    before = point;
  }
  return before.seconds;
}

std::vector<const Measurement*> RunFolder::newest() const {
  std::map<std::string, const Measurement*> by_metric;
  for (const Measurement& one : measurements) {
    const Measurement*& held = by_metric[one.metric];
    if (held == nullptr || one.images >= held->images) held = &one;
  }
  std::vector<const Measurement*> out;
  for (const auto& [metric, one] : by_metric) out.push_back(one);
  return out;
}

bool is_run_folder(FileSystem& files, const std::string& folder) {
  for (const char* part :
       {"lives", "checkpoints", "metrics.jsonl", "status.json", "config.pbtxt"}) {
    if (files.exists(folder + "/" + part)) return true;
  }
  return false;
}

RunFolder read_run(FileSystem& files, const std::string& folder) {
  RunFolder run;
  run.folder = folder;
  while (run.folder.size() > 1 && run.folder.ends_with('/')) run.folder.pop_back();
  read_status(files, run);
  read_config(files, run);
  attempt(run, "lives", [&] { run.starts = read_lives(files, run.folder); });
  attempt(run, "metrics.jsonl", [&] { read_metrics_of(files, run); });
  attempt(run, "evaluations", [&] { read_evaluations(files, run); });
  attempt(run, "samples", [&] { list_previews(files, run); });
  attempt(run, "checkpoints",
          [&] { run.checkpoints = list_checkpoints(files, run.folder, Depth::kQuick); });
  attempt(run, "logs", [&] { read_logs(files, run); });
  sort_measurements(run.measurements);
  run.name = printable(run.config ? run.config->name() : run.status["name"].text(), 100);
  if (run.name.empty()) run.name = printable(run.folder.substr(run.folder.rfind('/') + 1), 100);
  return run;
}

}  // namespace lf
