#include "train/evaluators.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/activity.h"
#include "comm/threads.h"
#include "comm/watchdog.h"
#include "eval/evaluate.h"
#include "run/run.h"

namespace lf {
namespace {

// The first letter of a message. To the evaluating ranks:
constexpr char kEvaluate = 'e', kEnd = 'x';  // a checkpoint's folder; the exit status
// and to rank 0:
constexpr char kFound = 'f', kBrokenOff = 'b', kStop = 's';  // a record; nothing; nothing

void pause(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// The evaluating ranks' side. The first of them speaks with rank 0.
class Evaluating {
 public:
  Evaluating(World& everyone, World& part, const Config& config, const TrainJob& job)
      : everyone_(everyone),
        part_(part),
        config_(config),
        job_(job),
        watchdog_(everyone, config.comm()),
        device_(choose_device(part, config.train(), job.accelerator)) {}

  int run() {
    while (true) {
      const std::string order = part_.broadcast(part_.is_root() ? next_order() : std::string());
      if (order.front() == kEnd) return std::stoi(order.substr(1));
      open_log_file(job_.run_folder + "/logs");  // not before the run is there
      const Watchdog::Phase phase("evaluation", 24 * 3600);
      evaluate(order.substr(1));
    }
  }

 private:
  std::string next_order() {
    const Watchdog::Phase phase("waiting for a checkpoint");
    while (!hears()) {
      report_stop();
      note_progress();
      pause(20);
    }
    std::string order = std::move(*order_);
    order_.reset();
    return order;
  }

  // Whether rank 0 has asked for something that is not yet done.
  bool hears() {
    if (!order_) order_ = everyone_.take(0);
    return order_.has_value();
  }

  void report_stop() {
    if (reported_ || stop_requested() == StopReason::kNone) return;
    everyone_.post(0, {kStop});
    reported_ = true;
  }

  void evaluate(const std::string& folder) {
    std::string answer = {kBrokenOff};
    try {
      const std::vector<Result> results = results_of(folder);
      if (!part_.is_root()) return;
      answer = kFound + record_of(results, images_).SerializeAsString();
    } catch (const Error& error) {  // all ranks throw it together
      if (error.code() != Code::kInterrupted) throw;
    }
    if (!part_.is_root()) return;
    everyone_.post(0, answer);
    report_stop();
  }

  std::vector<Result> results_of(const std::string& folder) {
    Run run = open_run(folder, job_.run_folder);
    run.load_model(device_, job_.make);
    run.stores = open_run_stores(config_, job_.run_folder, run.manifest().store_id());
    images_ = run.images();
    EvaluationSubject subject = subject_of(run);
    subject.break_off = [this] { return part_.is_root() && hears(); };
    return evaluate_model(part_, config_.evaluation(), subject);
  }

  World& everyone_;
  World& part_;
  const Config& config_;
  const TrainJob& job_;
  const Watchdog watchdog_;
  const at::Device device_;
  std::optional<std::string> order_;
  bool reported_ = false;
  int64_t images_ = 0;  // of the checkpoint being evaluated
};

}  // namespace

Evaluators::Evaluators(World& everyone, World& training, Found found)
    : everyone_(everyone), training_(training), found_(std::move(found)), first_(training.size()) {}

void Evaluators::submit(const std::vector<std::string>& folders) {
  queue_.insert(queue_.end(), folders.begin(), folders.end());
}

void Evaluators::poll() {
  while (const std::optional<std::string> message = everyone_.take(first_)) {
    if (message->front() == kStop) {
      request_stop();
      continue;
    }
    const std::string folder = std::exchange(current_, "");
    if (message->front() == kBrokenOff) {
      LF_INFO("the evaluation of ", folder, " was broken off");
      continue;
    }
    EvaluationRecord record;
    LF_CHECK(record.ParseFromString(message->substr(1)), "an evaluation's record");
    found_(folder, record);
  }
  if (!current_.empty() || queue_.empty() || stop_requested() != StopReason::kNone) return;
  current_ = queue_.front();
  queue_.pop_front();
  everyone_.post(first_, kEvaluate + current_);
}

StopReason Evaluators::wait() {
  while (true) {
    if (training_.is_root()) poll();
    const bool busy = !current_.empty() || !queue_.empty();  // nowhere but on rank 0
    if (training_.max(static_cast<int64_t>(busy)) == 0) return StopReason::kNone;
    const int64_t reason = training_.max(static_cast<int64_t>(stop_requested()));
    if (reason != 0) return static_cast<StopReason>(reason);
    pause(50);
  }
}

void Evaluators::end(int status) { everyone_.post(first_, kEnd + std::to_string(status)); }

int evaluate_apart(World& everyone, World& part, const Config& config, const TrainJob& job) {
  at::set_num_threads(threads_of_rank(part, config.train().threads()));
  watch_for_stop(job.run_folder, config.train().deadline_margin_seconds());
  note_part(1);
  return Evaluating(everyone, part, config, job).run();
}

}  // namespace lf
