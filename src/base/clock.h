// Time: the monotonic clock by which durations are measured, and Unix time for records and
// deadlines that people and schedulers share with us.
#pragma once

#include <chrono>

namespace lf {

using Clock = std::chrono::steady_clock;  // Clock::now() never jumps

inline double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}
inline double seconds_since(Clock::time_point begin) {
  return seconds_between(begin, Clock::now());
}

// Seconds since 1970. The system clock: it may jump.
inline double unix_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace lf
