#include "comm/watchdog.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "comm/activity.h"
#include "comm/address.h"

namespace lf {
namespace {

constexpr std::chrono::milliseconds kTick{250};
constexpr double kTickSeconds = 0.25;
constexpr size_t kStepsKept = 16;
constexpr double kUnconnectedGrace = 5;  // a rank that judges only itself lets others speak first

double limit_of(const Beat& beat, double timeout) {
  return std::max(timeout, beat.activity.limit_seconds);
}

std::string describe_ranks(const std::vector<int>& ranks, const std::vector<Beat>& beats) {
  std::vector<std::string> parts;
  for (const int rank : ranks) {
    parts.push_back(str("rank ", rank, ": ", beats[static_cast<size_t>(rank)].activity.describe()));
    if (parts.size() == 4) break;
  }
  return join(parts, "; ");
}

std::string silent_message(const std::vector<int>& ranks, const std::vector<Beat>& beats,
                           double seconds) {
  return str(name_ranks(ranks), ranks.size() == 1 ? " has" : " have", " not been heard for ",
             human_seconds(seconds),
             " (stopped, lost, or the machine is down); last known: ", describe_ranks(ranks, beats),
             "; ending the job");
}

std::string stalled_message(const std::vector<int>& ranks, const std::vector<Beat>& beats,
                            double seconds) {
  return str(name_ranks(ranks), ranks.size() == 1 ? " has" : " have", " made no progress for ",
             human_seconds(seconds), "; ", describe_ranks(ranks, beats),
             "; ending the job (comm.timeout_seconds sets the time)");
}

// The ranks to blame, given that some have stood still for too long: those that wait for no other.
// A rank inside a collective waits for those that are not inside, however long these may
// take; if all are inside, for those that began fewest.
std::vector<int> hanging_ranks(const std::vector<Beat>& beats, int part, double timeout) {
  std::vector<int> busy, waiting;
  bool somebody_may_progress = false;
  uint64_t fewest = UINT64_MAX;
  int64_t earliest = INT64_MAX;
  for (const Beat& beat : beats) {
    if (beat.leaving != 0 || beat.activity.part != part) continue;
    const bool stalled = beat.stalled_seconds >= limit_of(beat, timeout);
    if (beat.activity.inside > 0) {
      fewest = std::min(fewest, beat.activity.began);
      waiting.push_back(beat.rank);
    } else if (stalled) {
      busy.push_back(beat.rank);
      earliest = std::min(earliest, beat.activity.step);
    } else {
      somebody_may_progress = true;
    }
  }
  const auto beat_of = [&](int rank) -> const Beat& { return beats[static_cast<size_t>(rank)]; };
  if (!busy.empty()) {
    std::erase_if(busy, [&](int rank) { return beat_of(rank).activity.step != earliest; });
    return busy;
  }
  if (somebody_may_progress) return {};
  std::erase_if(waiting, [&](int rank) { return beat_of(rank).activity.began != fewest; });
  // One of them that was stopped and continued has not stood still for long: wait for it.
  const bool all_stalled = std::all_of(waiting.begin(), waiting.end(), [&](int rank) {
    return beat_of(rank).stalled_seconds >= limit_of(beat_of(rank), timeout);
  });
  return all_stalled ? waiting : std::vector<int>{};
}

}  // namespace

std::string judge(const std::vector<Beat>& beats, const std::vector<double>& silence,
                  double timeout_seconds) {
  std::vector<int> silent;
  double longest = 0;
  for (size_t rank = 0; rank < beats.size(); ++rank) {
    if (beats[rank].leaving != 0 || silence[rank] < timeout_seconds) continue;
    silent.push_back(static_cast<int>(rank));
    longest = std::max(longest, silence[rank]);
  }
  if (!silent.empty()) return silent_message(silent, beats, longest);
  std::set<int> parts;
  for (const Beat& beat : beats) parts.insert(beat.activity.part);
  for (const int part : parts) {
    const std::vector<int> hanging = hanging_ranks(beats, part, timeout_seconds);
    if (hanging.empty()) continue;
    return stalled_message(hanging, beats,
                           beats[static_cast<size_t>(hanging.front())].stalled_seconds);
  }
  return "";
}

std::optional<Straggler> find_straggler(const std::vector<Beat>& beats) {
  std::vector<double> seconds;
  Straggler slowest;
  for (const Beat& beat : beats) {
    if (beat.activity.part != 0) continue;  // no rank that trains
    if (beat.step_seconds <= 0) return std::nullopt;
    seconds.push_back(beat.step_seconds);
    if (beat.step_seconds > slowest.seconds) {
      slowest.rank = beat.rank;
      slowest.seconds = beat.step_seconds;
    }
  }
  if (seconds.empty()) return std::nullopt;
  // The lower median, so that the slower of two ranks shows.
  const auto middle = seconds.begin() + static_cast<int64_t>((seconds.size() - 1) / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  slowest.ratio = slowest.seconds / *middle;
  return slowest;
}

Watchdog::Phase::Phase(const std::string& name, double limit_seconds)
    : before_(current_activity()) {
  note_phase(name, limit_seconds);
}

Watchdog::Phase::~Phase() { note_phase(before_.phase.data(), before_.limit_seconds); }

Watchdog::Watchdog(World& world, const CommConfig& config,
                   std::function<void(const std::string&)> on_hang)
    : rank_(world.rank()),
      size_(world.size()),
      timeout_(config.timeout_seconds()),
      on_hang_(std::move(on_hang)),
      channel_(world, root_address(world, config)),
      beats_(static_cast<size_t>(size_)),
      silence_(static_cast<size_t>(size_), 0) {
  for (int rank = 0; rank < size_; ++rank) beats_[static_cast<size_t>(rank)].rank = rank;
  if (size_ > 1 && !channel_.connected() && rank_ == 0) {
    LF_WARN(
        "the ranks' heartbeats do not reach rank 0 by UDP (a firewall, or another address is "
        "needed: comm.address); a hang will still end the job, but the rank named may be one "
        "that waits for the one that hangs");
  }
  thread_ = std::thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wakes_.notify_all();
  thread_.join();
  // A rank that exits for an error falls silent: unless the launcher stops the others, their
  // watchdog does.
  if (std::uncaught_exceptions() > 0) return;
  Beat last = own_beat();
  last.leaving = 1;
  for (int copy = 0; copy < 3; ++copy) channel_.send(last);  // packets may be lost
}

void Watchdog::begin_step(int64_t step) {
  note_step(step);
  const auto now = Clock::now();
  const double waited = current_activity().waited;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (step_begun_.time_since_epoch().count() != 0) {
    const double whole = seconds_between(step_begun_, now);
    step_seconds_.push_back(std::max(whole - (waited - step_waited_), 1e-9));
    if (step_seconds_.size() > kStepsKept) step_seconds_.pop_front();
  }
  step_begun_ = now;
  step_waited_ = waited;
}

std::optional<Straggler> Watchdog::straggler() const {
  if (rank_ != 0) return std::nullopt;
  const std::lock_guard<std::mutex> lock(mutex_);
  return find_straggler(beats_);
}

Beat Watchdog::own_beat() {
  Beat beat;
  beat.rank = rank_;
  beat.activity = current_activity();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (beat.activity.changes != last_changes_) stalled_ = 0;
  last_changes_ = beat.activity.changes;
  beat.stalled_seconds = stalled_;
  if (!step_seconds_.empty()) {
    beat.step_seconds = std::accumulate(step_seconds_.begin(), step_seconds_.end(), 0.0) /
                        static_cast<double>(step_seconds_.size());
  }
  return beat;
}

void Watchdog::run() {
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wakes_.wait_for(lock, kTick, [&] { return stop_; });
      if (stop_) return;
      stalled_ += kTickSeconds;
      for (double& silence : silence_) silence += kTickSeconds;
    }
    tick();
  }
}

void Watchdog::tick() {
  const Beat own = own_beat();
  channel_.send(own);
  std::string reason;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto take = [&](const Beat& beat) {
      beats_[static_cast<size_t>(beat.rank)] = beat;
      silence_[static_cast<size_t>(beat.rank)] = 0;
    };
    take(own);
    channel_.receive(take);
    if (size_ > 1 && !channel_.connected()) {
      if (own.stalled_seconds >= limit_of(own, timeout_) + kUnconnectedGrace) {
        reason = stalled_message({rank_}, beats_, own.stalled_seconds);
      }
    } else if (rank_ == 0) {
      reason = judge(beats_, silence_, timeout_);
    } else if (beats_[0].leaving == 0 &&
               // One after the other, so that one message is printed, by the first that lives.
               silence_[0] >= timeout_ + 1 + 0.5 * std::min(rank_, 8)) {
      reason = silent_message({0}, beats_, silence_[0]);
    }
  }
  if (!reason.empty()) fire(reason);
}

void Watchdog::fire(const std::string& message) {
  if (fired_) return;
  fired_ = true;
  if (on_hang_) {
    on_hang_(message);
    return;
  }
  log_fatal_line(message);
  World::abort(static_cast<int>(Code::kPeer));
}

}  // namespace lf
