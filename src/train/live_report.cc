#include "train/live_report.h"

#include <exception>

#include "base/log.h"

namespace lf {

LiveReport::~LiveReport() {
  if (std::uncaught_exceptions() > 0) write();
}

bool LiveReport::affordable() const {
  constexpr double kShare = 0.01;  // of the time since the last writing
  return cost_ <= kShare * seconds_since(written_);
}

void LiveReport::after_step() {
  constexpr double kOld = 60;
  if (seconds_since(written_) > kOld && affordable()) write();
}

void LiveReport::after_news() {
  if (affordable()) write();
}

void LiveReport::write() {
  const Clock::time_point begin = Clock::now();
  try {
    write_();
  } catch (const std::exception& error) {  // a page is not worth a run
    LF_WARN("report.html: ", error.what());
  }
  written_ = Clock::now();
  cost_ = seconds_between(begin, written_);
}

}  // namespace lf
