// A progress bar with ETA on a terminal; elsewhere one plain line an interval, never a carriage
// return, so that batch logs stay small. Writes to stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"

namespace lf {

class Progress {
 public:
  // `unit` is what is counted ("images"); `done` of them were done by an earlier process.
  Progress(std::string title, std::string unit, uint64_t total, uint64_t done = 0,
           std::chrono::milliseconds line_interval = std::chrono::seconds(10));
  // Shows `done` of the total with rate and ETA, then `extra` ("loss 0.123"); at most a few times a
  // second on a terminal and once a line interval elsewhere, unless `force`d.
  void show(uint64_t done, const std::string& extra = "", bool force = false);
  // The last line, kept on the screen.
  void finish(uint64_t done, const std::string& extra = "");

  double per_second() const { return rate_; }  // smoothed over the last seconds
  double eta_seconds(uint64_t done) const;

 private:
  std::string line(uint64_t done, const std::string& extra) const;

  std::string title_, unit_;
  uint64_t total_, first_, last_done_;
  std::chrono::milliseconds interval_;
  bool terminal_;
  double rate_ = 0;
  Clock::time_point started_, last_rate_, last_shown_;
  bool shown_ = false;
};

}  // namespace lf
