// Stops a job in which a rank hangs, and names the rank. A thread on every rank sends what the rank
// is doing (activity.h) to rank 0 a few times a second. Rank 0 looks for a rank that is silent
// (stopped, or its machine is down) or whose activity stands still although it waits for no other
// rank; every rank looks for the silence of rank 0. stderr names the rank with its step, phase and
// last collective, and the job exits with Code::kPeer. Time is counted in the watchdog's own ticks:
// a process that was stopped for an hour and continued does not fire. Also finds the slowest rank.
// Not a profiler.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/heartbeat.h"
#include "comm/world.h"
#include "run.pb.h"

namespace lf {

// The rank that takes longest over its own part of a step (waiting for others in MpiBackend left
// out), and how many times the median rank that is.
struct Straggler {
  int rank = 0;
  double seconds = 0;
  double ratio = 1;
};

class Watchdog {
 public:
  // Collective. `on_hang` gets the message, once, instead of the process exiting; for tests.
  Watchdog(World& world, const CommConfig& config,
           std::function<void(const std::string&)> on_hang = nullptr);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void begin_step(int64_t step);
  // Long work without steps or collectives is still alive.
  void progress() { note_progress(); }

  // What the rank does during the object's lifetime. `limit_seconds` is how long it may stand still
  // in this phase if that is longer than comm.timeout_seconds (evaluation on one rank).
  class Phase {
   public:
    explicit Phase(const std::string& name, double limit_seconds = 0);
    ~Phase();
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

   private:
    Activity before_;
  };

  // On rank 0, once every rank has done a few steps.
  std::optional<Straggler> straggler() const;

  bool connected() const { return channel_.connected(); }

 private:
  void run();
  void tick();
  void fire(const std::string& message);
  Beat own_beat();

  const int rank_, size_;
  const double timeout_;
  std::function<void(const std::string&)> on_hang_;
  HeartbeatChannel channel_;

  mutable std::mutex mutex_;
  std::condition_variable wakes_;
  bool stop_ = false, fired_ = false;
  uint64_t last_changes_ = 0;
  double stalled_ = 0;
  std::vector<Beat> beats_;  // by rank, the last of each; on rank 0 all of them, else own and 0's
  std::vector<double> silence_;  // by rank, seconds since the last beat
  std::deque<double> step_seconds_;
  double step_waited_ = 0;
  Clock::time_point step_begun_;
  std::thread thread_;
};

// Why the job should stop, given the last beat of each rank and how long ago it came; "" if it
// should not. Rank 0's judgement, without clocks and sockets.
std::string judge(const std::vector<Beat>& beats, const std::vector<double>& silence,
                  double timeout_seconds);

std::optional<Straggler> find_straggler(const std::vector<Beat>& beats);

}  // namespace lf
