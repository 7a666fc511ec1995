#include "sweep/runs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/clock.h"
#include "base/console.h"
#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/stop.h"
#include "sweep/measuring.h"

namespace lf {
namespace {

constexpr std::chrono::milliseconds kLook(500);
constexpr uint64_t kLargestStatus = 1 << 16;

std::string title_of(const ArmPlan& arm, const ArmRun& run) {
  return str(arm.name, " seed ", run.seed);
}

std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

}  // namespace

const char* name_of(ArmRun::State state) {
  switch (state) {
    case ArmRun::State::kWaiting:
      return "WAITING";
    case ArmRun::State::kRunning:
      return "RUNNING";
    case ArmRun::State::kFailed:
      return "FAILED";
    case ArmRun::State::kFinished:
      return "FINISHED";
  }
  return "?";
}

std::vector<ArmRun> runs_of(const SweepPlan& plan, const std::vector<size_t>& asked) {
  std::vector<ArmRun> runs;
  int seeds = 0;
  for (const ArmPlan& arm : plan.arms) seeds = std::max(seeds, arm.seeds);
  for (int seed = 0; seed < seeds; ++seed) {
    for (size_t i = 0; i < plan.arms.size(); ++i) {
      const bool named = std::find(asked.begin(), asked.end(), i) != asked.end();
      if (seed >= plan.arms[i].seeds || (!named && plan.arms[i].extra)) continue;
      runs.push_back({.arm = i, .seed = seed, .asked = named});
    }
  }
  return runs;
}

void identify(std::vector<ArmRun>& runs, const SweepPlan& plan, const Identities& identities) {
  for (ArmRun& run : runs) {
    const ArmPlan& arm = plan.arms[run.arm];
    run.hash = identities.row(arm, run.seed);
    run.folder = str("runs/", arm.name, "-", run.seed, "-", identities.training(arm, run.seed));
  }
}

Runs::Runs(Shared& shared, std::vector<ArmRun> runs) : shared_(shared), runs_(std::move(runs)) {}

void Runs::find_finished() {
  const Workshop& workshop = shared_.workshop;
  std::map<std::string, RunRow> rows =
      read_rows(workshop.files(), workshop.folder() + "/rows.jsonl");
  if (!shared_.plan.sweep.rows().empty())
    rows.merge(read_rows(workshop.files(), shared_.plan.sweep.rows()));
  const std::lock_guard<std::mutex> lock(mutex_);
  for (ArmRun& run : runs_) {
    const auto found = rows.find(run.hash);
    if (found != rows.end()) {
      run.state = ArmRun::State::kFinished;
      run.row = found->second;
    } else if (run.error = workshop.kept("failed-" + run.hash); !run.error.empty()) {
      run.state = ArmRun::State::kFailed;
    }
  }
}

std::vector<size_t> Runs::waiting() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<size_t> out;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (runs_[i].asked && runs_[i].state != ArmRun::State::kFinished) out.push_back(i);
  }
  return out;
}

Config Runs::config_of(const ArmRun& run) const {
  const ArmPlan& arm = shared_.plan.arms[run.arm];
  const Workshop& workshop = shared_.workshop;
  Config config = arm.config;
  fill_placeholders(config, workshop.weights());
  config.set_name(arm.name);
  config.mutable_train()->set_images(arm.images);
  config.mutable_train()->set_seed(static_cast<uint64_t>(run.seed));
  const std::string held_out = workshop.held_out_store(arm.config);
  config.mutable_train()->set_store(workshop.training_store(arm.config));
  config.mutable_train()->set_validation_store(held_out);
  set_curve(config, shared_.plan, workshop, held_out);
  return config;
}

RunRow Runs::row_of(const ArmRun& run) const {
  const SweepPlan& plan = shared_.plan;
  const ArmPlan& arm = plan.arms[run.arm];
  const Workshop& workshop = shared_.workshop;
  const std::string folder = workshop.folder() + "/" + run.folder,
                    log = run.folder.substr(run.folder.find('/') + 1);
  const double seconds = workshop.train(folder, config_of(run), log);
  const std::map<std::string, double> values = measure(plan, workshop, arm, run.seed, folder, log);
  std::map<std::string, Curve> curves = curves_of(plan, workshop.files(), folder);
  const std::string array = str(workshop.folder(), "/pictures/", arm.name, ".npy");
  if (plan.sweep.pictures() > 0 && run.seed == 0)
    make_pictures(plan, workshop, arm, folder, array, log);
  const ArmSize& size = shared_.sizes[run.arm];
  Json json;
  json.object([&] {
    json.field("arm", arm.name)
        .field("seed", run.seed)
        .field("hash", run.hash)
        .field("images", arm.images);
    json.field("steps", arm.steps()).field("bits", size.bits).field("parameters", size.parameters);
    json.field("multiplications", size.multiplications).field("samples", plan.sweep.samples());
    json.field("seconds", seconds).field("program", shared_.program);
    json.object("values", [&] {
      for (const auto& [name, value] : values) json.field(name, value);
    });
    json.object("curve", [&] {
      for (auto& named : curves) {  // a lambda holds no binding
        auto& curve = named.second;
        if (curve.empty() || curve.back().first < arm.images)
          curve.emplace_back(arm.images, values.at(named.first));
        json.array(named.first, [&] {
          for (const auto& point : curve)
            json.array([&] { json.value(point.first).value(point.second); });
        });
      }
    });
    json.object("extractors", [&] {
      for (const auto& [name, hash] : shared_.extractors) json.field(name, hash);
    });
  });
  return parse_row(json.text(), "the row of " + title_of(arm, run));
}

void Runs::work(size_t index) {
  ArmRun run;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    runs_[index].state = ArmRun::State::kRunning;
    run = runs_[index];
  }
  const ArmPlan& arm = shared_.plan.arms[run.arm];
  Workshop& workshop = shared_.workshop;
  const std::string failure = workshop.folder() + "/kept/failed-" + run.hash;
  workshop.files().remove(failure);
  run.error.clear();
  console_line(title_of(arm, run) + ": begins");
  const Clock::time_point begin = Clock::now();
  try {
    run.row = row_of(run);
    add_row(workshop.files(), workshop.folder() + "/rows.jsonl", run.row);
    const std::string& rows = shared_.plan.sweep.rows();
    if (!rows.empty() && !shared_.short_sweep) add_row(workshop.files(), rows, run.row);
    run.state = ArmRun::State::kFinished;
  } catch (const Error& error) {
    if (error.code() == Code::kInterrupted || error.code() == Code::kStorage) {
      const std::lock_guard<std::mutex> lock(mutex_);
      runs_[index].state = ArmRun::State::kWaiting;
      throw;
    }
    run.state = ArmRun::State::kFailed;
    run.error = error.what();
    publish_file(workshop.files(), failure, run.error + "\n");
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    runs_[index] = run;
  }
  tell(run, seconds_since(begin));
}

void Runs::tell(const ArmRun& run, double seconds) const {
  const ArmPlan& arm = shared_.plan.arms[run.arm];
  if (run.state == ArmRun::State::kFailed) {
    return console_line(str(title_of(arm, run), " failed: ", run.error, "; its log is ",
                            shared_.workshop.folder(), "/logs/",
                            run.folder.substr(run.folder.find('/') + 1)));
  }
  std::vector<std::string> parts;
  for (const MeasurePlan& measure : shared_.plan.measures) {
    const auto value = run.row.values.find(measure.name);
    if (value != run.row.values.end()) parts.push_back(measure.name + " " + decimal(value->second));
  }
  console_line(str(title_of(arm, run), ": ", join(parts, ", "), ", in ", human_seconds(seconds)));
}

// The arithmetic of a run, by which runs of different arms add up.
double Runs::work_of(const ArmRun& run) const {
  const ArmPlan& arm = shared_.plan.arms[run.arm];
  return static_cast<double>(arm.images) * std::max(1.0, shared_.sizes[run.arm].multiplications);
}

double Runs::work_done() const {
  double done = 0;
  for (const ArmRun& run : runs_) {
    if (!run.asked) continue;
    if (run.state == ArmRun::State::kFinished || run.state == ArmRun::State::kFailed)
      done += work_of(run);
    const std::string path = shared_.workshop.folder() + "/" + run.folder + "/status.json";
    double images = 0;
    if (run.state != ArmRun::State::kRunning || !shared_.workshop.files().exists(path)) continue;
    parse(json_member(read_file(shared_.workshop.files(), path, kLargestStatus), "images"),
          &images);
    done += work_of(run) * images / static_cast<double>(shared_.plan.arms[run.arm].images);
  }
  return done;
}

// Tells how far the whole is, until it is done.
void Runs::watch(const std::function<bool()>& done) const {
  double all = 0, before = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const ArmRun& run : runs_) all += run.asked ? work_of(run) : 0;
    before = work_done();
  }
  // In thousandths, as the work of small networks and large ones has no common unit for people.
  constexpr double kParts = 1000;
  Progress progress("sweep", "parts", static_cast<uint64_t>(kParts),
                    static_cast<uint64_t>(kParts * before / all));
  while (!done()) {
    std::this_thread::sleep_for(kLook);
    uint64_t parts = 0;
    std::string finished;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto count = std::count_if(runs_.begin(), runs_.end(), [](const ArmRun& run) {
        return run.asked && run.state == ArmRun::State::kFinished;
      });
      const auto asked =
          std::count_if(runs_.begin(), runs_.end(), [](const ArmRun& run) { return run.asked; });
      parts = static_cast<uint64_t>(kParts * work_done() / all);
      finished = str(count, " of ", asked, " runs done");
    }
    progress.show(parts, {finished});
  }
}

void Runs::run_all(int jobs, const std::function<void()>& changed) {
  const std::vector<size_t> todo = waiting();
  if (todo.empty()) return;
  std::atomic<size_t> next{0}, ended{0};
  std::mutex one;
  std::exception_ptr failure;
  const int count = static_cast<int>(std::min<size_t>(todo.size(), static_cast<size_t>(jobs)));
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&] {
      try {
        for (size_t at = next++; at < todo.size() && stop_requested() == StopReason::kNone;
             at = next++) {
          work(todo[at]);
          const std::lock_guard<std::mutex> lock(one);
          changed();
        }
      } catch (...) {
        const std::lock_guard<std::mutex> lock(one);
        if (!failure) failure = std::current_exception();
        next = todo.size();
      }
      ++ended;
    });
  }
  watch([&] { return ended.load() == static_cast<size_t>(count); });
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  if (stop_requested() != StopReason::kNone) fail(Code::kInterrupted, "asked to stop");
}

void Runs::run_one(size_t index) {
  if (runs_[index].state != ArmRun::State::kFinished) work(index);
}

}  // namespace lf
