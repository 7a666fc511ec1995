// Tells a run that has diverged: its loss stays far above the first one, or its steps are skipped
// since they are not finite. For the log and status.json; decides nothing.
#pragma once

#include <cmath>
#include <limits>

namespace lf {

class DivergenceWatch {
 public:
  static constexpr double kFactor = 3;  // times the first loss
  static constexpr int kReports = 5;    // in a row: so many make a run diverged, or well again

  enum class News { kNone, kDiverged, kRecovered };

  // `first`: the first loss of the run; NaN if it has none yet.
  explicit DivergenceWatch(double first) : first_(first) {}

  // The mean loss since the last report, NaN if every step was skipped. A first loss that is not
  // positive says nothing of those after it.
  News add(double loss) {
    if (std::isnan(first_) && std::isfinite(loss)) first_ = loss;
    const bool high = !std::isfinite(loss) || (first_ > 0 && loss > kFactor * first_);
    in_a_row_ = high == diverged_ ? 0 : in_a_row_ + 1;
    if (in_a_row_ < kReports) return News::kNone;
    diverged_ = high;
    in_a_row_ = 0;
    return high ? News::kDiverged : News::kRecovered;
  }

  bool diverged() const { return diverged_; }
  double first() const { return first_; }

 private:
  double first_ = std::numeric_limits<double>::quiet_NaN();
  int in_a_row_ = 0;  // reports that say otherwise than diverged_
  bool diverged_ = false;
};

}  // namespace lf
