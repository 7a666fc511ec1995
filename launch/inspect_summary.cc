// `lastframe inspect` of a run: what its folder tells of its model, data, progress and results.
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text.h"
#include "checkpoint/run_claim.h"
#include "config/config.h"
#include "data/recipe/short_text.h"
#include "data/store/layout.h"
#include "launch/inspect.h"
#include "launch/output.h"
#include "run/stores.h"

namespace lf {
namespace {

constexpr uint64_t kLargestText = 16 << 20;

using Lines = std::vector<std::pair<std::string, std::string>>;

std::string file_text(FileSystem& files, const std::string& path) {
  try {
    return files.exists(path) ? read_file(files, path, kLargestText) : "";
  } catch (const Error&) {
    return "";
  }
}

// The last lines of a file that may be long; the first of them may be cut.
std::vector<std::string> last_lines(FileSystem& files, const std::string& path) {
  constexpr uint64_t kEnough = 4 << 20;
  if (!files.exists(path)) return {};
  const std::unique_ptr<InFile> in = files.open_read(path);
  std::string end(std::min(kEnough, in->size()), '\0');
  in->read(in->size() - end.size(), end.data(), end.size());
  return split(end, '\n');
}

std::string count_text(const std::string& digits) {
  uint64_t count = 0;
  return parse(digits, &count) ? human_count(count) : digits;
}

// A number of our JSON, which has every digit, as people read it.
std::string short_text(const std::string& number) {
  double value = 0;
  if (!parse(number, &value)) return number;
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.5g", value);
  return out.data();
}

// Of the model's tensors those that the optimiser keeps something of, NAME/exp_avg: a codebook is
// not one. All if it keeps nothing.
uint64_t trained_values(const CheckpointManifest& manifest) {
  std::set<std::string> optimised;
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "optimizer") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      optimised.insert(tensor.name().substr(0, tensor.name().rfind('/')));
    }
  }
  uint64_t values = 0;
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "model") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      if (!optimised.empty() && !optimised.contains(tensor.name())) continue;
      uint64_t of_tensor = 1;
      for (const int64_t side : tensor.shape()) of_tensor *= static_cast<uint64_t>(side);
      values += of_tensor;
    }
  }
  return values;
}

std::string model_text(const Config& config, const std::vector<Candidate>& checkpoints) {
  const auto* kinds = ModelConfig::descriptor()->FindOneofByName("kind");
  const auto* kind = config.model().GetReflection()->GetOneofFieldDescriptor(config.model(), kinds);
  std::string text = kind == nullptr ? "none" : kind->name();
  if (config.model().has_diffusion()) text += ", diffusion";
  for (const Candidate& checkpoint : checkpoints) {
    if (checkpoint.valid()) {
      return text + ", " + human_count(trained_values(checkpoint.manifest)) + " parameters";
    }
  }
  return text;
}

void describe_store(FileSystem& files, const Config& config, const std::string& run_folder,
                    Lines& lines) {
  const std::string folder = training_store_folder(config, run_folder);
  if (!files.exists(index_path(folder))) {
    lines.emplace_back("store", printable(folder) + ", which is not there");
    return;
  }
  const StoreIndex index = read_index(files, index_path(folder));
  uint64_t clips = 0;
  for (const ShardRecord& shard : index.shards()) clips += shard.clips();
  lines.emplace_back("store", str(printable(folder), ": ", counted(clips, "clip"), " of ",
                                  counted(index.frames(), "frame"), " of ", index.width(), "x",
                                  index.height(), "x", index.channels(), ", ", index.store_id()));
  lines.emplace_back("recipe", recipe_in_short(index.recipe_text()));
}

// What a killed process leaves says that it is running.
std::string progress_text(const std::string& status, const RunHolder& holder) {
  const auto value = [&](const char* name) { return json_member(status, name); };
  double images = 0, total = 0, updated = 0, left = 0, speed = 0;
  parse(value("images"), &images);
  parse(value("total_images"), &total);
  parse(value("eta_seconds"), &left);
  parse(value("images_per_second"), &speed);
  if (total > 0) images = std::min(images, total);  // the last batch may go beyond it
  const bool gone = holder.state == RunHolder::State::kGone;
  const bool running = value("state") == "running" && !gone;
  std::string text =
      str(gone ? holder.name() : value("state"), ", ", human_count(static_cast<uint64_t>(images)),
          " of ", count_text(value("total_images")), " images");
  if (total > 0) text += " (" + human_share(images / total) + ")";
  if (speed > 0) text += ", " + human_rate(speed);
  if (running && left > 0) text += ", ETA " + human_seconds(left);
  if (!value("diverged").empty()) text += ", diverged: " + printable(value("diverged"));
  if (!value("straggler").empty()) text += ", " + printable(value("straggler"));
  if (parse(value("updated"), &updated)) {
    text += ", as of " + human_seconds(std::max(0.0, unix_now() - updated)) + " ago";
  }
  return text;
}

// "fid768 12.3, psnr 20.1" of the JSON of an evaluation's results.
std::string values_of(const std::string& results) {
  std::vector<std::string> values;
  for (const auto& [metric, result] : json_members(results)) {
    values.push_back(printable(metric) + " " + short_text(json_member(result, "value")));
  }
  return join(values, ", ");
}

// Of metrics.jsonl, whose newest lines are last.
void describe_metrics(FileSystem& files, const std::string& run_folder, Lines& lines) {
  std::string step, validation;
  for (const std::string& line : last_lines(files, run_folder + "/metrics.jsonl")) {
    if (json_member(line, "loss").empty()) continue;
    (json_member(line, "event").empty() ? step : validation) = line;
  }
  const auto at = [](const std::string& line) {
    return " at image " + count_text(json_member(line, "images"));
  };
  if (!step.empty()) lines.emplace_back("loss", short_text(json_member(step, "loss")) + at(step));
  if (!validation.empty()) {
    lines.emplace_back("validation",
                       "loss " + short_text(json_member(validation, "loss")) + at(validation));
  }
}

// What evaluations, in training and after it, wrote of the newest checkpoint that had one.
void describe_evaluations(FileSystem& files, const std::string& run_folder, Lines& lines) {
  const std::string folder = run_folder + "/evaluations";
  if (!files.exists(folder)) return;
  std::vector<std::string> records;  // "img-000000012800-samples-...json", sorted
  for (const std::string& name : files.list(folder)) {
    if (name.ends_with(".json")) records.push_back(name);
  }
  const auto image_of = [](const std::string& name) { return name.substr(0, 16); };
  for (const std::string& name : records) {
    if (image_of(name) != image_of(records.back())) continue;
    const std::string text = file_text(files, folder + "/" + name);
    lines.emplace_back("evaluation",
                       values_of(text.substr(0, text.find('\n'))) + ": " + printable(name, 200));
  }
}

}  // namespace

Lines summary_of_run(FileSystem& files, const std::string& run_folder,
                     const std::vector<Candidate>& checkpoints) {
  Lines lines;
  const std::string config_path = run_folder + "/config.pbtxt";
  if (const std::string text = file_text(files, config_path); !text.empty()) {
    try {
      const Config config = parse_config(text, printable(config_path));
      lines.emplace_back("model", model_text(config, checkpoints));
      describe_store(files, config, run_folder, lines);
    } catch (const Error& error) {  // of another program, or damaged: the checkpoints still count
      lines.emplace_back("unreadable", error.what());
    }
  }
  const std::string status = file_text(files, run_folder + "/status.json");
  const RunHolder holder = holder_of_run(files, run_folder);
  if (holder.state != RunHolder::State::kNobody) {
    lines.emplace_back("process", holder.sentence(run_folder));
  }
  if (!status.empty()) lines.emplace_back("progress", progress_text(status, holder));
  describe_metrics(files, run_folder, lines);
  describe_evaluations(files, run_folder, lines);
  return lines;
}

}  // namespace lf
