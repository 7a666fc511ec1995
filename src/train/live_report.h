// The page that shows a run while it trains, on rank 0. Another part of the program writes it, from
// the run's files; here is when: at what is new to see, in less than 1 % of the time, and never so
// that a page which cannot be written ends a run.
#pragma once

#include <functional>

#include "base/clock.h"

namespace lf {

class LiveReport {
 public:
  explicit LiveReport(std::function<void()> write) : write_(std::move(write)) {}
  ~LiveReport();  // while an error unwinds, the page says so
  LiveReport(const LiveReport&) = delete;
  LiveReport& operator=(const LiveReport&) = delete;

  // Writes if the page is a minute old and it is affordable.
  void after_step();
  // A preview, an evaluation: writes if it is affordable.
  void after_news();
  void at_end() { write(); }

 private:
  bool affordable() const;
  void write();

  std::function<void()> write_;
  Clock::time_point written_{};
  double cost_ = 0;  // seconds of the last writing
};

}  // namespace lf
