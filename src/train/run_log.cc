#include "train/run_log.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>

#include "base/error.h"
#include "base/json.h"

namespace lf {
namespace {

constexpr uint64_t kLargestMetrics = uint64_t{4} << 30;

// Of a line we wrote ourselves; -1 if there is none.
int64_t images_of(const std::string& line) {
  int64_t images = -1;
  return line.ends_with('}') && parse(json_member(line, "images"), &images) ? images : -1;
}

std::string short_number(double value) {
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.4g", value);
  return out.data();
}

}  // namespace

std::vector<std::string> unusual_in(const StepReport& report) {
  constexpr double kWait = 0.05, kCommunication = 0.3;  // shares of time that are worth a word
  std::vector<std::string> unusual;
  if (report.diverged) unusual.emplace_back("diverged");
  if (report.skipped_steps > 0) {
    unusual.push_back(str(human_count(static_cast<uint64_t>(report.skipped_steps)),
                          report.skipped_steps == 1 ? " step" : " steps", " skipped: not finite"));
  }
  if (!report.straggler.empty()) unusual.push_back(report.straggler);
  if (report.data_wait > kWait) {
    unusual.push_back("waits for data " + human_share(report.data_wait));
  }
  if (report.checkpoint_stall > kWait) {
    unusual.push_back("waits for checkpoints " + human_share(report.checkpoint_stall));
  }
  if (report.communication > kCommunication) {
    unusual.push_back("communication " + human_share(report.communication));
  }
  return unusual;
}

void cut_back_metrics(const std::string& path, int64_t resume_images) {
  FileSystem& files = real_file_system();
  if (!files.exists(path)) return;
  const std::string bytes = read_file(files, path, kLargestMetrics);
  std::string kept;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = bytes.find('\n', begin);
    if (end == std::string::npos) break;  // incomplete: the process died while writing it
    const std::string line = bytes.substr(begin, end - begin);
    const int64_t images = images_of(line);
    if (images >= 0 && images <= resume_images) kept += line + "\n";
    begin = end + 1;
  }
  // Published even if nothing is cut: an earlier life that should be dead but writes on (its node
  // was given up) then writes into a file that nobody finds.
  publish_file(files, path, kept);
}

bool has_event(const std::string& run_folder, int64_t images, const std::string& name) {
  const std::string path = run_folder + "/metrics.jsonl";
  FileSystem& files = real_file_system();
  if (!files.exists(path)) return false;
  for (const std::string& line : split(read_file(files, path, kLargestMetrics), '\n')) {
    if (images_of(line) == images && json_member(line, "event") == name) return true;
  }
  return false;
}

double first_loss(const std::string& run_folder) {
  constexpr uint64_t kEnough = 1 << 20;  // bytes
  const std::string path = run_folder + "/metrics.jsonl";
  FileSystem& files = real_file_system();
  if (files.exists(path)) {
    const std::unique_ptr<InFile> file = files.open_read(path);
    std::string bytes(std::min(file->size(), kEnough), '\0');
    file->read(0, bytes.data(), bytes.size());
    for (const std::string& line : split(bytes, '\n')) {
      double loss = 0;
      if (!line.empty() && parse(json_member(line, "loss"), &loss)) return loss;
    }
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// Cut back before it is opened, since that may put a new file in its place.
static std::string metrics_path(const std::string& run_folder, int64_t resume_images) {
  std::string path = run_folder + "/metrics.jsonl";
  cut_back_metrics(path, resume_images);
  return path;
}

RunLog::RunLog(const std::string& run_folder, int64_t resume_images, int64_t run_images)
    : metrics_(metrics_path(run_folder, resume_images)),
      tensorboard_(run_folder, resume_images),
      progress_("train", "images", static_cast<uint64_t>(run_images),
                static_cast<uint64_t>(resume_images)) {}

void RunLog::append(const std::string& line) {
  metrics_.append(line + "\n");
  metrics_.flush();
}

void RunLog::step(const StepReport& r) {
  std::vector<std::pair<std::string, double>> values = {{"loss", r.loss}};
  values.insert(values.end(), r.terms.begin(), r.terms.end());
  values.insert(values.end(), {{"lr", r.lr},
                               {"gradient_norm", r.gradient_norm},
                               {"images_per_second", r.images_per_second},
                               {"images_per_second_per_rank", r.images_per_second / r.ranks},
                               {"data_wait", r.data_wait},
                               {"communication", r.communication},
                               {"checkpoint_stall", r.checkpoint_stall},
                               {"overhead", r.overhead},
                               {"memory_bytes", static_cast<double>(r.memory_bytes)},
                               {"skipped_steps", static_cast<double>(r.skipped_steps)}});
  Json json;
  json.object([&] {
    json.field("images", r.images);
    for (const auto& [name, value] : values) json.field(name, value);
  });
  append(json.text());
  for (const auto& [name, value] : values) tensorboard_.scalar(r.images, "train/" + name, value);
  tensorboard_.flush();
  values_ = {"loss " + short_number(r.loss)};
  unusual_ = unusual_in(r);
  progress(r.images);
}

void RunLog::event(int64_t images, const std::string& name,
                   const std::vector<std::pair<std::string, double>>& values) {
  Json json;
  json.object([&] {
    json.field("images", images).field("event", name);
    for (const auto& [key, value] : values) {
      json.field(key, value);
      tensorboard_.scalar(images, name + "/" + key, value);
    }
  });
  append(json.text());
  tensorboard_.flush();
}

void RunLog::results(const EvaluationRecord& record) {
  Json json;
  json.object([&] {
    json.field("images", record.images()).field("event", "evaluation");
    json.key("results").raw(record.json());
  });
  append(json.text());
  for (const NamedNumber& number : record.number()) {
    tensorboard_.scalar(record.images(), "evaluation/" + number.name(), number.value());
  }
  tensorboard_.flush();
}

void RunLog::preview(int64_t images, const std::string& tag, const std::string& png, int height,
                     int width) {
  tensorboard_.image(images, tag, png, height, width);
  tensorboard_.flush();
}

}  // namespace lf
