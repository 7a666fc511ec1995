// Waiting for another rank without burning a core: a short spin that yields, then sleeps of an
// eighth of the time waited so far, at most a millisecond, so that the added delay stays a small
// part of the wait.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace lf {

class Patience {
 public:
  void pause() {
    using std::chrono::microseconds;
    const auto waited = std::chrono::duration_cast<microseconds>(Clock::now() - begun_);
    if (waited < kSpin) {
      ::sched_yield();
    } else {
      std::this_thread::sleep_for(std::clamp(waited / 8, kShortest, kLongest));
    }
  }

 private:
  static constexpr std::chrono::microseconds kSpin{50}, kShortest{10}, kLongest{1000};
  Clock::time_point begun_ = Clock::now();
};

}  // namespace lf
