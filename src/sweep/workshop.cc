#include "sweep/workshop.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/console.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "config/config.h"
#include "data/formats/npy.h"

namespace lf {
namespace {

constexpr uint64_t kLargestAnswer = 1 << 20;
constexpr uint64_t kLargestArray = uint64_t{1} << 32;
constexpr int kPicturesOf = 3;  // times half as many clips as are shown, since splits are by chance

const std::vector<std::string> kData = {"source", "recipe", "store"};
const std::vector<std::string> kTraining = {"name",   "model",      "train",     "comm",
                                            "loader", "checkpoint", "evaluation"};

double number_in(const std::string& json, const char* name) {
  double value = 0;
  parse(json_member(json, name), &value);
  return value;
}

std::string frame_array(const NpyHeader& header, const std::string& bytes, uint64_t frame) {
  const std::vector<uint64_t>& shape = header.shape;
  const uint64_t size = shape[2] * shape[3] * shape[4];
  std::string out = npy_header(header.type, {shape[0], shape[2], shape[3], shape[4]});
  for (uint64_t clip = 0; clip < shape[0]; ++clip) {
    out += bytes.substr(header.data_offset + (clip * shape[1] + frame) * size, size);
  }
  return out;
}

// As publish_file() does, also for two threads at once.
void publish_text(FileSystem& files, const std::string& path, const std::string& text) {
  static std::atomic<int> number{0};
  publish_file(files, path, str(path, ".tmp-", ::getpid(), "-", ++number),
               [&](OutFile& out) { out.write(text.data(), text.size()); });
}

}  // namespace

Workshop::Workshop(FileSystem& files, std::string folder, const Children& children,
                   const Sweep& sweep)
    : files_(files), folder_(std::move(folder)), children_(children), sweep_(sweep) {
  for (const char* part :
       {"kept", "configs", "stores", "first", "runs", "logs", "pictures", "anchors"}) {
    files_.make_folders(folder_ + "/" + part);
  }
}

std::string Workshop::kept(const std::string& name) const {
  const std::string path = folder_ + "/kept/" + name;
  if (!files_.exists(path)) return "";
  std::string text = read_file(files_, path, kLargestAnswer);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string Workshop::kept(const std::string& name,
                           const std::function<std::string()>& find) const {
  std::unique_lock<std::mutex> all(mutex_);
  std::mutex& own = finding_[name];
  all.unlock();
  const std::lock_guard<std::mutex> lock(own);
  std::string text = kept(name);
  if (!text.empty()) return text;
  text = find();
  publish_text(files_, folder_ + "/kept/" + name, text + "\n");
  return text;
}

std::string Workshop::config_file(const std::string& name, const std::string& text) const {
  const std::string path = folder_ + "/configs/" + name + ".pbtxt";
  if (!files_.exists(path) || read_file(files_, path, kLargestAnswer) != text)
    publish_text(files_, path, text);
  return path;
}

std::string Workshop::store(const Config& data, const char* part) const {
  const std::string text = print_config(data, kData);
  const std::string name = str(part, "-", hash_of(text)), path = folder_ + "/stores/" + name;
  kept(name, [&] {
    const std::string config = config_file(name, text);
    children_.call({"build", "--config", config, "--out", path}, name);
    return json_member(children_.json({"inspect", path}, name), "clips");
  });
  return path;
}

int64_t Workshop::clips_of(const std::string& store) const {
  int64_t clips = 0;
  parse(kept(std::filesystem::path(store).filename().string()), &clips);
  return clips;
}

std::string Workshop::training_store(const Config& arm) const {
  return store(training_data(sweep_, arm), "train");
}

// How many images a source holds is known once a build has looked at it.
static int64_t items_of(const Workshop& workshop, const Config& data) {
  const std::string text = print_config(data, kData), name = "items-" + hash_of(text);
  int64_t items = 0;
  parse(workshop.kept(
            name,
            [&] {
              return json_member(
                  workshop.children().json(
                      {"build", "--config", workshop.config_file(name, text), "--dry-run"}, name),
                  "items");
            }),
        &items);
  return items;
}

std::string Workshop::held_out_store(const Config& arm) const {
  const int64_t items = items_of(*this, held_out_data(sweep_, arm));
  return store(held_out_data(sweep_, arm, items), "test");
}

std::string Workshop::picture_store(const Config& arm) const {
  if (arm.source().has_generated()) return held_out_store(arm);
  Sweep few = sweep_;
  few.set_samples(kPicturesOf * static_cast<int64_t>(sweep_.pictures()) / 2);
  const int64_t items = items_of(*this, held_out_data(sweep_, arm));
  return store(held_out_data(few, arm, items), "pictures");
}

// ---- what arms cost
// ---------------------------------------------------------------------------------

// Without stores, so that the source's options tell the shape.
std::string Workshop::size_config(const ArmPlan& arm, bool one_clip) const {
  Config config = arm.config;
  // Whose children frames are changes neither shapes nor time.
  config.mutable_recipe()->clear_topology();
  config.mutable_recipe()->clear_window();
  if (one_clip) {
    config.mutable_train()->set_batch(1);
    config.mutable_train()->set_accumulation(1);
    config.mutable_train()->set_threads(1);
  }
  std::map<std::string, std::string> values = weights_;
  for (const First& first : sweep_.first()) values.emplace(first.name(), "");
  fill_placeholders(config, values);
  return print_config(config);
}

bool Workshop::awaits_tokenizer(const ArmPlan& arm) const {
  const std::string text = print_config(arm.config);
  return std::any_of(sweep_.first().begin(), sweep_.first().end(), [&](const First& first) {
    return weights_.count(first.name()) == 0 &&
           text.find("tokenizer: \"${" + first.name() + "}\"") != std::string::npos;
  });
}

ArmSize Workshop::size_of(const ArmPlan& arm) const {
  const std::string text = size_config(arm, true), name = "size-" + hash_of(text);
  const std::string found = kept(name, [&] {
    const std::string told = children_.json(
        {"train", "--config", config_file(name, text), "--dry-run", "--no-memory"}, name);
    Json json;
    json.object([&] {
      for (const char* field : {"parameters", "bits_per_clip"})
        json.field(field, number_in(told, field));
    });
    return json.text();
  });
  return {static_cast<int64_t>(number_in(found, "parameters")), number_in(found, "bits_per_clip"),
          0};
}

double Workshop::multiplications_of(const ArmPlan& arm) const {
  // The arithmetic of an image does not depend on the batch, of which the smallest is counted
  // soonest.
  const std::string text = size_config(arm, true), name = "arithmetic-" + hash_of(text);
  double flops = 0;
  parse(kept(name,
             [&] {
               const std::string config = config_file(name, text);
               const std::string told =
                   children_.json({"train", "--config", config, "--dry-run"}, name);
               return json_member(told, "flops_per_image");
             }),
        &flops);
  return flops / 2;  // the program counts each multiplication with its addition
}

std::string Workshop::step_key(const ArmPlan& arm, int jobs) const {
  return str("step-", jobs, "-", children_.ranks(), "-", hash_of(size_config(arm, false)));
}

double Workshop::known_step_seconds(const ArmPlan& arm, int jobs) const {
  double seconds = 0;
  parse(kept(step_key(arm, jobs)), &seconds);
  return seconds;
}

void Workshop::keep_step_seconds(const ArmPlan& arm, int jobs, double seconds) const {
  kept(step_key(arm, jobs), [&] { return json_number(seconds); });
}

double Workshop::step_seconds(const ArmPlan& arm, int jobs) const {
  const std::string key = step_key(arm, jobs);
  kept(key, [&] {
    const std::string config = config_file(key, size_config(arm, false));
    std::vector<double> found(static_cast<size_t>(jobs));
    std::vector<std::string> words = {"bench", "step", "--config", config, "--seconds", "3"};
    if (arm.config.train().threads() == 0) words.insert(words.end(), {"--threads", "1"});
    run_parallel(found.size(), jobs, [&](uint64_t i) {
      found[i] =
          number_in(children_.json(words, key, Children::On::kAllRanks), "ms_per_step") / 1000;
    });
    return json_number(*std::max_element(found.begin(), found.end()));
  });
  return known_step_seconds(arm, jobs);
}

// ---- training
// ---------------------------------------------------------------------------------------

double Workshop::train(const std::string& run, Config config, const std::string& log) const {
  make_paths_absolute(config);
  if (config.train().threads() == 0) config.mutable_train()->set_threads(1);
  if (!config.loader().has_threads()) config.mutable_loader()->set_threads(1);
  const std::string name = std::filesystem::path(run).filename().string(),
                    spent = name + ".seconds";
  const std::string state = run + "/status.json",
                    file = config_file(name, print_config(config, kTraining));
  double seconds = 0;
  parse(kept(spent), &seconds);
  const bool finished =
      files_.exists(state) &&
      json_member(read_file(files_, state, kLargestAnswer), "state") == "finished";
  if (finished) return seconds;
  const Clock::time_point begin = Clock::now();
  const auto keep = [&] {
    seconds += seconds_since(begin);
    publish_text(files_, folder_ + "/kept/" + spent, json_number(seconds) + "\n");
  };
  try {
    children_.call({"train", "--config", file, "--run", run}, log, Children::On::kAllRanks);
  } catch (const Error&) {
    keep();
    throw;
  }
  keep();
  return seconds;
}

std::string Workshop::weights_of(const FirstPlan& first, const Identities& identities) {
  const std::string name = first.name + "-" + identities.first(first.name);
  std::string path = folder_ + "/first/" + name + ".safetensors";
  if (!files_.exists(path)) {
    Config config = first.config;
    fill_placeholders(config, weights_);
    console_line(str("first ", first.name, ": learns from ",
                     human_count(static_cast<uint64_t>(config.train().images())), " images"));
    config.mutable_train()->set_store(training_store(first.config));
    config.mutable_train()->set_validation_store(held_out_store(first.config));
    const std::string run = folder_ + "/first/" + name, part = run + ".part.safetensors";
    train(run, config, name);
    children_.call({"export", run, "--out", part}, name);
    files_.rename(part, path);
  }
  weights_[first.name] = path;
  return path;
}

double Workshop::anchor(const Anchor& anchor, const ArmPlan& arm) const {
  Config config = arm.config;
  set_options(config, {anchor.set().begin(), anchor.set().end()});
  const std::string path = held_out_store(config),
                    key = "anchor-" + std::filesystem::path(path).filename().string();
  const std::string found = kept(key + "-" + anchor.metric(), [&] {
    const std::string clips = folder_ + "/anchors/" + key, last = clips + ".last.npy",
                      first = clips + ".first.npy";
    children_.call({"export", path, "--npy", clips + ".npy"}, key);
    const std::string bytes = read_file(files_, clips + ".npy", kLargestArray);
    const std::span<const uint8_t> begin(reinterpret_cast<const uint8_t*>(bytes.data()),
                                         std::min<size_t>(bytes.size(), kNpyHeaderBytes));
    const NpyHeader header = parse_npy_header(begin, bytes.size(), clips + ".npy");
    if (header.type != "|u1" || header.shape.size() != 5) {
      fail(Code::kUsage, "anchor '", printable(anchor.name()),
           "' has frames that are no bytes, as those of noise; choose another recipe");
    }
    publish_file(files_, last, frame_array(header, bytes, header.shape[1] - 1));
    publish_file(files_, first, frame_array(header, bytes, 0));
    const std::string told =
        children_.json({"evaluate", "--pairs", last, first, "--metrics", anchor.metric()}, key);
    for (const std::string& array : {clips + ".npy", last, first}) files_.remove(array);
    return json_member(json_member(told, anchor.metric()), "value");
  });
  double value = 0;
  parse(found, &value);
  return value;
}

}  // namespace lf
